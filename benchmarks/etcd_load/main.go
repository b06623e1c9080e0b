// etcd_load drives etcd in a closed loop: each worker has one request open and sends the next when it is answered.
//
//	etcd_load -endpoints HOST:PORT,... -op put|get|sget|fill -clients N -seconds S -warmup S -keys N -value BYTES
//
// get is linearizable, sget may be stale; fill writes every key once. One JSON line goes to standard output.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// More connections than this gain nothing on a small machine; fewer make one gRPC stream the bottleneck.
const maxConnections = 8

// etcd refuses transactions of more than 128 operations.
const fillBatch = 100

const grace = 10 * time.Second

type worker struct {
	latenciesUs []float64
	errors      int
	lastError   string
}

type result struct {
	OpsPerSecond float64 `json:"ops_per_second"`
	P50Us        float64 `json:"p50_us"`
	P99Us        float64 `json:"p99_us"`
	Errors       int     `json:"errors"`
	LastError    string  `json:"last_error"`
}

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "etcd_load: %s: %v\n", what, err)
	os.Exit(1)
}

func keyName(index int) string { return fmt.Sprintf("key-%012d", index) }

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

func fill(ctx context.Context, pool []*clientv3.Client, keys int, value string) {
	var group sync.WaitGroup
	for w := range pool {
		group.Add(1)
		go func(w int) {
			defer group.Done()
			for start := w * fillBatch; start < keys; start += len(pool) * fillBatch {
				var puts []clientv3.Op
				for key := start; key < start+fillBatch && key < keys; key++ {
					puts = append(puts, clientv3.OpPut(keyName(key), value))
				}
				if _, err := pool[w].Txn(ctx).Then(puts...).Commit(); err != nil {
					fail("filling", err)
				}
			}
		}(w)
	}
	group.Wait()
}

func (own *worker) run(ctx context.Context, do func(context.Context, string) error, luck *rand.Rand, keys int, from, until time.Time) {
	for {
		begun := time.Now()
		if !begun.Before(until) {
			return
		}
		err := do(ctx, keyName(luck.Intn(keys)))
		ended := time.Now()
		if ended.Before(from) || !ended.Before(until) {
			continue
		}
		if err != nil {
			own.errors++
			own.lastError = err.Error()
			continue
		}
		own.latenciesUs = append(own.latenciesUs, float64(ended.Sub(begun).Nanoseconds())/1e3)
	}
}

func summarize(workers []worker, seconds float64) result {
	var all []float64
	var sum result
	for i := range workers {
		all = append(all, workers[i].latenciesUs...)
		sum.Errors += workers[i].errors
		if workers[i].lastError != "" {
			sum.LastError = workers[i].lastError
		}
	}
	if len(all) == 0 {
		return sum
	}
	sort.Float64s(all)
	sum.OpsPerSecond = float64(len(all)) / seconds
	sum.P50Us = all[len(all)/2]
	sum.P99Us = all[len(all)*99/100]
	return sum
}

func main() {
	addresses := flag.String("endpoints", "", "host:port,...")
	op := flag.String("op", "put", "put, get (linearizable), sget (may be stale) or fill")
	clients := flag.Int("clients", 64, "requests open at any time")
	seconds := flag.Float64("seconds", 3, "how long to measure")
	warmup := flag.Float64("warmup", 0.3, "seconds before that which are not counted")
	keys := flag.Int("keys", 100000, "keys in use")
	valueBytes := flag.Int("value", 100, "bytes of a value")
	flag.Parse()
	duration := time.Duration((*seconds + *warmup) * float64(time.Second))
	limit := grace + duration
	if *op == "fill" {
		limit = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()

	endpoints := strings.Split(*addresses, ",")
	first := dial(endpoints)
	endpoints = leaderFirst(ctx, first, endpoints)
	_ = first.Close()
	connections := *clients
	if connections > maxConnections {
		connections = maxConnections
	}
	var pool []*clientv3.Client
	for i := 0; i < connections; i++ {
		pool = append(pool, dial(endpoints[i%len(endpoints):i%len(endpoints)+1]))
	}
	value := strings.Repeat("v", *valueBytes)
	if *op == "fill" {
		fill(ctx, pool, *keys, value)
		fmt.Println("{}")
		return
	}
	operations := map[string]func(*clientv3.Client) func(context.Context, string) error{
		"put": func(c *clientv3.Client) func(context.Context, string) error {
			return func(ctx context.Context, key string) error { _, err := c.Put(ctx, key, value); return err }
		},
		"get": func(c *clientv3.Client) func(context.Context, string) error {
			return func(ctx context.Context, key string) error { _, err := c.Get(ctx, key); return err }
		},
		"sget": func(c *clientv3.Client) func(context.Context, string) error {
			return func(ctx context.Context, key string) error {
				_, err := c.Get(ctx, key, clientv3.WithSerializable())
				return err
			}
		},
	}
	make_, known := operations[*op]
	if !known {
		fail("-op", fmt.Errorf("%q is none of put, get, sget, fill", *op))
	}
	from := time.Now().Add(time.Duration(*warmup * float64(time.Second)))
	until := from.Add(time.Duration(*seconds * float64(time.Second)))
	workers := make([]worker, *clients)
	var group sync.WaitGroup
	for w := range workers {
		group.Add(1)
		go func(w int) {
			defer group.Done()
			luck := rand.New(rand.NewSource(time.Now().UnixNano() + int64(w)))
			workers[w].run(ctx, make_(pool[w%connections]), luck, *keys, from, until)
		}(w)
	}
	group.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(summarize(workers, *seconds)); err != nil {
		fail("printing", err)
	}
}
