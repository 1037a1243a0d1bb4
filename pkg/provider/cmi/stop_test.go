// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
)

// stopping stops the server in the background and tells when Stop has returned.
func (r *rig) stopping(limit time.Duration) <-chan struct{} {
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		r.stop(limit)
	}()
	select {
	case <-r.server.stopped:
	case <-time.After(rigLimit):
		r.Fatal("the server does not stop")
	}
	return returned
}

func awaitEnd(t testing.TB, what string, limit time.Duration, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(limit):
		t.Fatalf("%s has not ended after %s", what, limit)
	}
}

func TestACallThatIsUnderWayEndsBeforeTheServerDoes(t *testing.T) {
	t.Parallel()
	held := newOccupied("DeleteMachine")
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{})
	client := r.machines()
	answered := make(chan error, 1)
	go func() {
		response, err := client.DeleteMachine(rigContext(t), &cmiv1.DeleteMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec)})
		if err == nil && string(response.GetLastKnownState()) != "Deleted" {
			err = errors.New(response.String())
		}
		answered <- err
	}()
	held.await(t)
	returned := r.stopping(rigLimit)
	select {
	case <-returned:
		t.Fatal("Stop has not waited for the call")
	default:
	}
	// Neither over the connection that is there nor over a new one.
	rigEventually(t, func() error {
		if _, err := rigStatus(t.Context(), client, "other"); status.Code(err) != codes.Unavailable {
			return errors.New("a new call over the old connection is not refused")
		}
		return nil
	})
	if _, err := rigStatus(t.Context(), r.machines(), "other"); status.Code(err) != codes.Unavailable {
		t.Errorf("a new call over a new connection is answered %v", err)
	}
	close(held.release)
	if err := <-answered; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	awaitEnd(t, "Stop", rigLimit, returned)
}

func TestACallThatTakesTooLongIsCancelledByStop(t *testing.T) {
	t.Parallel()
	held := newOccupied("DeleteMachine")
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{})
	client := r.machines()
	answered := make(chan error, 1)
	go func() {
		_, err := client.DeleteMachine(rigContext(t), &cmiv1.DeleteMachineRequest{MachineName: rigMachine})
		answered <- err
	}()
	held.await(t)
	awaitEnd(t, "Stop", 5*time.Second, r.stopping(50*time.Millisecond))
	if err := <-answered; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Errorf("the call is answered %v", err)
	}
}

func TestStopWaitsForADriverThatCleansUpAfterACut(t *testing.T) {
	t.Parallel()
	held := newOccupied("DeleteMachine")
	held.deaf = true
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{})
	go func() {
		_, _ = r.machines().DeleteMachine(rigContext(t), &cmiv1.DeleteMachineRequest{MachineName: rigMachine})
	}()
	held.await(t)
	returned := r.stopping(10 * time.Millisecond)
	select {
	case <-returned:
		t.Error("Stop has returned while the driver is at work: its session would be logged out under it")
	case <-time.After(300 * time.Millisecond):
	}
	close(held.release)
	awaitEnd(t, "Stop", rigLimit, returned)
}

func TestAConnectionThatSaysNothingDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	for name, words := range map[string]string{"nothing": "", "half a preface": "PRI * HTTP/2.0\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := newOccupied("DeleteMachine")
			r := newRig(t, &stub{hook: held.hook}, ServerOptions{})
			if _, err := r.dial().Write([]byte(words)); err != nil {
				t.Fatal(err)
			}
			client := r.machines()
			go func() {
				_, _ = client.DeleteMachine(rigContext(t), &cmiv1.DeleteMachineRequest{MachineName: rigMachine})
			}()
			held.await(t) // the silent connection has been accepted by now
			returned := r.stopping(rigLimit)
			if _, err := rigStatus(t.Context(), client, "other"); status.Code(err) != codes.Unavailable {
				t.Errorf("a new call is answered %v", err)
			}
			close(held.release)
			awaitEnd(t, "Stop", 5*time.Second, returned)
		})
	}
}

func TestAnIdleConnectionDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, &stub{}, ServerOptions{})
	r.works()
	awaitEnd(t, "Stop", 5*time.Second, r.stopping(rigLimit))
}

func TestAServerMayBeStoppedTwiceAndBeforeItServes(t *testing.T) {
	t.Parallel()
	r := newRig(t, &stub{}, ServerOptions{})
	first, second := r.stopping(rigLimit), r.stopping(rigLimit)
	awaitEnd(t, "the first Stop", 5*time.Second, first)
	awaitEnd(t, "the second Stop", 5*time.Second, second)

	server, err := NewServer(&stub{}, ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server.Stop(context.Background())
	listener, err := Listen(t.Context(), rigSocket(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(listener); err != nil {
		t.Errorf("a server that is stopped serves: %v", err)
	}
}
