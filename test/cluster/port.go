// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports below those that the kernel gives to outgoing connections and to
// listeners on port 0: a port that is free here is not taken by accident before
// the program that it is for listens on it.
const (
	firstPort = 20000
	portCount = 12000
)

// FreePorts returns n different TCP ports of 127.0.0.1 on which nobody listens.
func FreePorts(ctx context.Context, n int) ([]int, error) {
	var ports []int
	for range 100 * n {
		port := firstPort + rand.IntN(portCount)
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // taken
		}
		defer listener.Close() //nolint:errcheck // held until all ports are found
		ports = append(ports, port)
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("find free ports on 127.0.0.1: every port that was tried is taken")
}
