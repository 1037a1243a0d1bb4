// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vcenter: signatures first, so that others can compile against them.
package vcenter

import (
	"context"
	"errors"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"
)

var errSoon = errors.New("not there yet") //nolint:gochecknoglobals // replaced within minutes

// Config says how to reach one vCenter and as whom. (Endpoint: host, host:port, or https URL.)
type Config struct {
	Endpoint, Username, Password string
	CABundle                     []byte
	Thumbprint                   string
	Insecure                     bool
}

// ConfigFromSecret reads the keys vsphereHost, vsphereUsername, ... of v1alpha1.
func ConfigFromSecret(data map[string][]byte) (Config, error) { return Config{}, errSoon }

// Options of a Pool. The zero value works.
type Options struct {
	UserAgent     string
	MaxConcurrent int
	KeepAlive     time.Duration
	CallTimeout   time.Duration
	// Observer is told of every request that really went to vCenter.
	Observer func(ctx context.Context, method string, took time.Duration, err error)
	// Middleware wraps the transport, for tests: it sees every request, Login included.
	Middleware func(soap.RoundTripper) soap.RoundTripper
	Clock      clock.WithTicker
}

// Pool shares sessions.
type Pool struct{}

// NewPool returns an empty pool.
func NewPool(Options) *Pool { return nil }

// Client returns a client with a session that is logged in; no vCenter call when the session is warm.
func (p *Pool) Client(ctx context.Context, cfg Config) (*Client, error) { return nil, errSoon }

// Close logs all sessions out.
func (p *Pool) Close(ctx context.Context) error { return errSoon }

// Client is one shared session. Nothing to close.
type Client struct{}

// Vim returns the client for govmomi; its RoundTripper has everything in it.
func (c *Client) Vim() *vim25.Client { return nil }

// NewWaiter returns a Waiter; it makes its property collector at the first wait. Not for concurrent use.
func (c *Client) NewWaiter() *Waiter { return nil }

// Waiter waits for tasks and properties with one property collector.
type Waiter struct{}

// Task waits until the task ended. State success: its info (Key, Task, DescriptionId, Entity,
// Result, State are set). State error: the task's fault through Convert (IsXxx predicates work on it).
func (w *Waiter) Task(ctx context.Context, ref types.ManagedObjectReference) (*types.TaskInfo, error) {
	return nil, errSoon
}

// Until calls done with each batch of updates of specs (the first one holds the present state) until it
// answers true or an error; that error is returned as it is.
func (w *Waiter) Until(ctx context.Context, specs []types.PropertyFilterSpec, done func([]types.ObjectUpdate) (bool, error)) error {
	return errSoon
}

// Close destroys the collector, also when ctx has ended. Never fails; may be called more than once.
func (w *Waiter) Close(ctx context.Context) {}

// Convert gives err (SOAP fault, task fault, network or context error) its errdefs kind; the cause stays in
// the chain. nil stays nil; an err that has a kind already keeps it.
func Convert(err error, format string, args ...any) error { return errSoon }

// IsManagedObjectNotFound reports whether the object behind a reference is gone.
func IsManagedObjectNotFound(err error) bool { return false }

// IsConcurrent reports ConcurrentAccess, TaskInProgress, InvalidState (not InvalidPowerState): repeat from a fresh read.
func IsConcurrent(err error) bool { return false }

// IsInvalidPowerState reports that a VM was not in the power state that the operation needs.
func IsInvalidPowerState(err error) bool { return false }

// IsFileNotFound reports that a datastore file is absent.
func IsFileNotFound(err error) bool { return false }

// IsMethodDisabled reports MethodDisabled (VIC disables Destroy on its VMs).
func IsMethodDisabled(err error) bool { return false }

// IsAlreadyExists reports DuplicateName, FileAlreadyExists, AlreadyExists.
func IsAlreadyExists(err error) bool { return false }
