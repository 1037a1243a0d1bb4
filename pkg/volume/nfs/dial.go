// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

const (
	dialTime = 10 * time.Second
	// Ports from which only a privileged process can connect. Below are those of services.
	firstPrivileged = 600
	lastPrivileged  = 1023
	// privilegedTries is how many of them are tried, should others have them.
	privilegedTries = 20
)

// DialFunc opens a connection.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialPrivileged connects from a port that only a privileged process can have, if this
// one is: servers want that unless the export has the option insecure. It is all
// that AUTH_SYS has for a proof.
func dialPrivileged(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	for range privilegedTries {
		port := firstPrivileged + rand.IntN(lastPrivileged-firstPrivileged+1) //nolint:gosec // no secret
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{Port: port}}).DialContext(ctx, network, address)
		switch {
		case err == nil:
			return quick(c), nil
		case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EADDRNOTAVAIL):
			continue
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			return dialPlain(ctx, network, address)
		}
		return nil, err
	}
	return dialPlain(ctx, network, address)
}

func dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return quick(c), nil
}

// quick has the port free at once when the connection is closed, not a minute later:
// there are few, and nothing is under way then.
func quick(c net.Conn) net.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // then it takes a minute
	}
	return c
}
