// etcd: get is linearizable. Needs the packages golang-go and golang-etcd-server-dev of Debian.
package main

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// More connections than this gain nothing on a small machine; fewer make one gRPC stream the bottleneck.
const maxConnections = 8

// etcd refuses transactions of more than 128 operations.
const fillBatch = 100

const fillLimit = 2 * time.Minute

// leaderFirst puts the leader's endpoint in front, so that a single client does not pay for a hop to it.
func leaderFirst(ctx context.Context, client *clientv3.Client, endpoints []string) []string {
	for at, endpoint := range endpoints {
		status, err := client.Status(ctx, endpoint)
		if err != nil {
			fail("status of "+endpoint, err)
		}
		if status.Leader == status.Header.MemberId {
			return append(append([]string{}, endpoints[at:]...), endpoints[:at]...)
		}
	}
	return endpoints
}

func dial(endpoints []string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second})
	if err != nil {
		fail("connecting", err)
	}
	return client
}

func pool(ctx context.Context, endpoints []string, clients int) []*clientv3.Client {
	first := dial(endpoints)
	endpoints = leaderFirst(ctx, first, endpoints)
	_ = first.Close()
	if clients > maxConnections {
		clients = maxConnections
	}
	var all []*clientv3.Client
	for i := 0; i < clients; i++ {
		all = append(all, dial(endpoints[i%len(endpoints):i%len(endpoints)+1]))
	}
	return all
}

func connect(addresses []string, op string, clients int, value string) []ask {
	ctx := context.Background()
	connections := pool(ctx, addresses, clients)
	asks := make([]ask, clients)
	for i := range asks {
		client := connections[i%len(connections)]
		asks[i] = func(key string) error {
			_, err := client.Get(ctx, key)
			return err
		}
		if op == "put" {
			asks[i] = func(key string) error {
				_, err := client.Put(ctx, key, value)
				return err
			}
		}
	}
	return asks
}

func fill(addresses []string, keys int, value string) {
	ctx, cancel := context.WithTimeout(context.Background(), fillLimit)
	defer cancel()
	connections := pool(ctx, addresses, maxConnections)
	var group sync.WaitGroup
	for w := range connections {
		group.Add(1)
		go func(w int) {
			defer group.Done()
			for start := w * fillBatch; start < keys; start += len(connections) * fillBatch {
				var puts []clientv3.Op
				for key := start; key < start+fillBatch && key < keys; key++ {
					puts = append(puts, clientv3.OpPut(keyName(key), value))
				}
				if _, err := connections[w].Txn(ctx).Then(puts...).Commit(); err != nil {
					fail("filling", err)
				}
			}
		}(w)
	}
	group.Wait()
}
