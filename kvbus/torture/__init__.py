"""Campaigns against the simulated world: workloads and fault schedules as plain data, one seed a run."""
