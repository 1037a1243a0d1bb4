// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package contender has the clients that are measured against each other. All make
// the same container VMs, in the same VCH, and wait until they run.
//
//   - Ours is the driver's backend, pkg/spi/vsphere, with one session pool.
//   - Usual is how drivers for vSphere are commonly written: log in for each call and
//     log out after it, find things by walking the inventory with govmomi's finder, wait for
//     each task with a property collector of its own, and list by one read for each VM.
//     It is our own small code, for measuring alone. What it does not do is in its favour:
//     it proves nothing before it destroys, cleans up after nobody, and ends a machine by
//     power-off instead of asking its process first.
//   - Floor makes the calls without which nothing happens, in the right order and with
//     all references known beforehand: what create and delete cannot be cheaper than, one
//     by one.
//
// Not measured, because the same for all: the configuration of the VCH that plans are
// made from is read once, before the start, and so is the SSH host key that each
// container VM is given.
package contender

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

// The names of the contenders.
const (
	OursName  = "ours"
	UsualName = "usual"
	FloorName = "floor"
)

// Contender is a client under measurement. Safe for concurrent use, with different machines.
type Contender interface {
	// Create makes a machine and returns when its process runs.
	Create(ctx context.Context, machine string) error
	// Status finds a machine; one that does not run is an error.
	Status(ctx context.Context, machine string) error
	// List returns how many machines there are.
	List(ctx context.Context) (int, error)
	// Delete removes a machine that is there, and its files.
	Delete(ctx context.Context, machine string) error
	// Prepare learns what a contender may know of machines before they are deleted. It
	// is not measured.
	Prepare(ctx context.Context, machines []string) error
	// Close logs out.
	Close(ctx context.Context) error
}

// Site is where the machines are.
type Site struct {
	// Host is host and port of vCenter.
	Host string
	// Username and Password log in; CABundle signs vCenter's certificate.
	Username, Password string
	CABundle           []byte
	// Spec is the JSON of the ProviderSpec of all machines.
	Spec []byte
	// UserData goes into each machine, HostKey too: a private key in PEM.
	UserData, HostKey []byte
}

// Open returns the contender of a name, ready to work: what it keeps is warm.
func Open(ctx context.Context, name string, site Site) (Contender, error) {
	spec, err := v1alpha1.Load(site.Spec)
	if err != nil {
		return nil, fmt.Errorf("load spec: %w", err)
	}
	switch name {
	case OursName:
		return openOurs(ctx, site, spec)
	case UsualName:
		return openUsual(ctx, site, spec)
	case FloorName:
		return openFloor(ctx, site, spec)
	}
	return nil, fmt.Errorf("there is no contender %q", name)
}

func (s Site) secret() *corev1.Secret {
	return &corev1.Secret{Data: map[string][]byte{
		v1alpha1.SecretHost:     []byte(s.Host),
		v1alpha1.SecretUsername: []byte(s.Username),
		v1alpha1.SecretPassword: []byte(s.Password),
		v1alpha1.SecretCABundle: s.CABundle,
		v1alpha1.SecretUserData: s.UserData,
	}}
}

// closeTimeout bounds a logout at the end.
const closeTimeout = 10 * time.Second
