// A closed loop: each worker has one request open and sends the next one when it is answered.
//
//	LOAD -addresses HOST:PORT,... -op put|get|fill -clients N -seconds S -warmup S -keys N -value BYTES
//
// fill writes every key once. One JSON line goes to standard output. Build this file together with the one of the
// system to drive: go build loop.go etcd.go
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

const grace = 10 * time.Second

// ask does one operation on a key and returns when it is answered.
type ask func(key string) error

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
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	os.Exit(1)
}

func keyName(index int) string { return fmt.Sprintf("key-%012d", index) }

func (own *worker) run(do ask, luck *rand.Rand, keys int, from, until time.Time) {
	for {
		begun := time.Now()
		if !begun.Before(until) {
			return
		}
		err := do(keyName(luck.Intn(keys)))
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
	list := flag.String("addresses", "", "host:port,...")
	op := flag.String("op", "put", "put, get or fill")
	clients := flag.Int("clients", 64, "requests open at any time")
	seconds := flag.Float64("seconds", 3, "how long to measure")
	warmup := flag.Float64("warmup", 0.3, "seconds before that which are not counted")
	keys := flag.Int("keys", 100000, "keys in use")
	valueBytes := flag.Int("value", 100, "bytes of a value")
	flag.Parse()
	addresses, value := strings.Split(*list, ","), strings.Repeat("v", *valueBytes)
	switch *op {
	case "fill":
		fill(addresses, *keys, value)
		fmt.Println("{}")
		return
	case "put", "get":
	default:
		fail("-op", fmt.Errorf("%q is none of put, get, fill", *op))
	}
	length := time.Duration((*warmup + *seconds) * float64(time.Second))
	// An absent server must not hang the run.
	time.AfterFunc(length+grace, func() { fail("waiting", errors.New("no answer in time")) })
	asks := connect(addresses, *op, *clients, value)
	until := time.Now().Add(length)
	from := until.Add(-time.Duration(*seconds * float64(time.Second)))
	workers := make([]worker, *clients)
	var group sync.WaitGroup
	for w := range workers {
		group.Add(1)
		go func(w int) {
			defer group.Done()
			luck := rand.New(rand.NewSource(time.Now().UnixNano() + int64(w)))
			workers[w].run(asks[w], luck, *keys, from, until)
		}(w)
	}
	group.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(summarize(workers, *seconds)); err != nil {
		fail("printing", err)
	}
}
