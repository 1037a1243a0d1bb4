// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
)

// wantMemory checks that the process has not got more memory than allowed, in MiB.
func (s *server) wantMemory(what string, before, allowed int) {
	s.Helper()
	grown := s.memory() - before
	s.Logf("%s: %d MiB more, of %d MiB", what, grown, before+grown)
	if grown > allowed {
		s.Errorf("%s made the driver take %d MiB more, at most %d are right", what, grown, allowed)
	}
}

func TestAHugeMessageIsRefusedAndTakesNoMemory(t *testing.T) {
	t.Parallel()
	s := serving(t, socket(t), nil)
	s.works("the start")
	before := s.memory()
	client := s.machines(grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(128 << 20)))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	huge := make([]byte, 64<<20)
	for range 5 {
		_, err := client.CreateMachine(ctx, &cmiv1.CreateMachineRequest{MachineName: "m", ProviderSpec: huge})
		if s := status.Convert(err); s.Code() != codes.ResourceExhausted || !strings.Contains(s.Message(), "larger than max") {
			t.Errorf("got %v", err)
		}
	}
	s.wantMemory("five messages of 64 MiB", before, 32)
	s.works("huge messages")
}

func TestAThousandIdleConnectionsAreSurvived(t *testing.T) {
	t.Parallel()
	const connections = 1000
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Cur < connections+200 {
		t.Fatalf("this test opens %d files, and %d are allowed: raise the limit (ulimit -n)", connections+200, files.Cur)
	}
	s := serving(t, socket(t), nil)
	s.works("the start")
	before := s.memory()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var wg sync.WaitGroup
	for i := range connections {
		if i%2 == 0 { // half of them are real clients that made a call, half have only said hello
			conn := s.conn(grpc.WithReadBufferSize(512), grpc.WithWriteBufferSize(512))
			wg.Go(func() {
				if _, err := cmiv1.NewIdentityClient(conn).Probe(ctx, &cmiv1.ProbeRequest{}); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			})
			continue
		}
		conn := s.dial()
		if _, err := conn.Write([]byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	s.works("a thousand idle connections")
	s.wantMemory(fmt.Sprintf("%d idle connections", connections), before, 96)
	s.signal(syscall.SIGTERM)
	if err := s.awaitEnd(); err != nil {
		t.Errorf("the end with idle connections: %v\n%s", err, s.out)
	}
}

func (s *server) dial() net.Conn {
	s.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(s.endpoint, "unix://"))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { conn.Close() })
	return conn
}

func TestMoreConnectionsThanThereMayBeWaitAndHurtNobody(t *testing.T) {
	t.Parallel()
	s := serving(t, socket(t), nil)
	known := s.conn()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	probe := func() error {
		_, err := cmiv1.NewIdentityClient(known).Probe(ctx, &cmiv1.ProbeRequest{})
		return err
	}
	if err := probe(); err != nil {
		t.Fatal(err)
	}
	for i := range 1200 {
		conn, err := net.Dial("unix", strings.TrimPrefix(s.endpoint, "unix://"))
		if err != nil {
			// The kernel's queue is full, too.
			if !errors.Is(err, syscall.EAGAIN) {
				t.Errorf("connection %d: %v", i, err)
			}
			break
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(http2.ClientPreface))
	}
	if err := probe(); err != nil {
		t.Errorf("a client that was there before: %v", err)
	}
	eventually(t, func() error { // the silent ones are closed after a while
		conn, err := net.Dial("unix", strings.TrimPrefix(s.endpoint, "unix://"))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	s.works("too many connections")
}

func TestGarbageDoesNotEndTheProcess(t *testing.T) {
	t.Parallel()
	s := serving(t, socket(t), nil)
	before := s.memory()
	random, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range 64 {
		conn := s.dial()
		text := random[i*4096 : i*4096+65536]
		if i%2 == 0 {
			text = append([]byte(http2.ClientPreface), text...)
		}
		_, _ = conn.Write(text) // it may hang up at any time
		conn.Close()
	}
	s.works("garbage")
	s.wantMemory("garbage", before, 32)
}

func TestManyHalfSentMessagesTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	const calls = 8
	s := serving(t, socket(t), nil, fmt.Sprint("--max-concurrent-calls=", calls))
	before := s.memory()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := http.Client{Transport: &http2.Transport{
		AllowHTTP:      true,
		DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) { return s.dial(), nil },
	}}
	// Messages of almost 4 MiB that lack their last byte, as many as a connection may have.
	const size = 4<<20 - 1
	var sent sync.WaitGroup
	for range calls + 16 {
		body := &unfinished{rest: append([]byte{0, 0, size >> 16, size >> 8 & 0xff, size & 0xff}, make([]byte, size-1)...), hang: ctx.Done()}
		sent.Add(1)
		body.sent = sync.OnceFunc(sent.Done)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://x/cmi.v1.Machine/CreateMachine", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/grpc")
		request.Header.Set("Te", "trailers")
		go func() {
			if response, err := client.Do(request); err == nil {
				response.Body.Close()
			}
		}()
	}
	sent.Wait()
	s.works("half-sent messages")
	s.wantMemory(fmt.Sprintf("%d messages of 4 MiB", calls+16), before, (calls+16)*4*2)
}

// unfinished is a body that never ends.
type unfinished struct {
	rest []byte
	sent func()
	hang <-chan struct{}
}

func (u *unfinished) Read(p []byte) (int, error) {
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	if n == 0 {
		u.sent()
		<-u.hang
		return 0, context.Canceled
	}
	return n, nil
}
