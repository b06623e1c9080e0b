// Redis: every worker has a connection of its own and sends SET and WAIT 1 together, so that a put counts once the
// primary has logged it and one replica has it. Needs nothing but Go's standard library.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const replyTimeout = 10 * time.Second

const waitMs = "1000"

const fillBatch = 1000

type connection struct {
	socket net.Conn
	reader *bufio.Reader
}

func dial(address string) *connection {
	socket, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		fail("connecting", err)
	}
	return &connection{socket, bufio.NewReader(socket)}
}

// command writes one command as RESP does: an array of bulk strings.
func command(parts ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "*%d\r\n", len(parts))
	for _, part := range parts {
		fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(part), part)
	}
	return text.String()
}

func (c *connection) send(text string) error {
	if err := c.socket.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return err
	}
	_, err := io.WriteString(c.socket, text)
	return err
}

// reply reads one simple string, integer or bulk string; absent tells a missing key.
func (c *connection) reply() (text string, absent bool, err error) {
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return "", false, err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case line == "":
		return "", false, errors.New("an empty reply")
	case line[0] == '-':
		return "", false, errors.New(line[1:])
	case line[0] != '$':
		return line[1:], false, nil
	}
	size, err := strconv.Atoi(line[1:])
	if err != nil || size < 0 {
		return "", true, err
	}
	bulk := make([]byte, size+2)
	_, err = io.ReadFull(c.reader, bulk)
	return string(bulk[:size]), false, err
}

func (c *connection) put(key, value string) error {
	if err := c.send(command("SET", key, value) + command("WAIT", "1", waitMs)); err != nil {
		return err
	}
	if _, _, err := c.reply(); err != nil {
		return err
	}
	replicas, _, err := c.reply()
	if err == nil && replicas == "0" {
		err = errors.New("no replica acknowledged")
	}
	return err
}

func (c *connection) get(key string) error {
	if err := c.send(command("GET", key)); err != nil {
		return err
	}
	_, absent, err := c.reply()
	if err == nil && absent {
		err = errors.New("the key is missing: fill first")
	}
	return err
}

func connect(addresses []string, op string, clients int, value string) []ask {
	asks := make([]ask, clients)
	for i := range asks {
		own := dial(addresses[0])
		asks[i] = own.get
		if op == "put" {
			asks[i] = func(key string) error { return own.put(key, value) }
		}
	}
	return asks
}

func fill(addresses []string, keys int, value string) {
	c := dial(addresses[0])
	for start := 0; start < keys; start += fillBatch {
		var text strings.Builder
		sent := 0
		for key := start; key < start+fillBatch && key < keys; key++ {
			text.WriteString(command("SET", keyName(key), value))
			sent++
		}
		if err := c.send(text.String()); err != nil {
			fail("filling", err)
		}
		for ; sent > 0; sent-- {
			if _, _, err := c.reply(); err != nil {
				fail("filling", err)
			}
		}
	}
}
