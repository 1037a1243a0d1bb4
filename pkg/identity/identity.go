// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package identity computes who a machine is.
//
// Nothing about a machine's identity is remembered: from the VCH (by the BIOS
// UUID of its appliance), the cluster tag and the machine name follow the
// container id, the BIOS UUID of the container VM and the provider id. The same
// three inputs always give the same machine, so that a repeated Create meets
// what the first one made.
//
// Words: container id (64 lower-case hex digits; short id = its first 12), mark
// (what proves that a VM is ours), provider id (vch://<appliance UUID>/<container id>).
//
// Pure code, used by all SPI implementations, the simulated VCH and vchctl.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Scheme is the scheme of provider ids.
const Scheme = "vch"

// ShortLength is the number of digits of a short id, as VIC shows it.
const ShortLength = 12

// Identity is all that follows from VCH, cluster and machine name.
type Identity struct {
	// VCH is the BIOS UUID of the VCH's appliance VM, lower case, canonical form.
	VCH string
	// ContainerID is VIC's container id: 64 lower-case hex digits.
	ContainerID string
	// BIOSUUID is the container VM's BIOS UUID, lower case, canonical form.
	BIOSUUID string
}

// New computes the identity of a machine. vch is the BIOS UUID of the appliance
// in any spelling that uuid.Parse takes; cluster is the cluster tag, as in
// Tags; machine is the Machine's name. Each must be non-empty and free of NUL;
// anything else is InvalidArgument.
func New(vch, cluster, machine string) (Identity, error) {
	u, err := uuid.Parse(vch)
	if err != nil {
		return Identity{}, errdefs.Wrap(errdefs.InvalidArgument, err, "parse BIOS UUID %q of the VCH appliance", vch)
	}
	for what, v := range map[string]string{"cluster": cluster, "machine name": machine} {
		if v == "" || strings.ContainsRune(v, 0) {
			return Identity{}, errdefs.New(errdefs.InvalidArgument, "%s must be non-empty and free of NUL, got %q", what, v)
		}
	}
	return fromContainerID(u, containerID(u, cluster, machine)), nil
}

func fromContainerID(vch uuid.UUID, id string) Identity {
	// VIC: BIOS UUID = UUIDv5(appliance BIOS UUID, container id), lib/portlayer/exec/container.go:919-930.
	return Identity{VCH: vch.String(), ContainerID: id, BIOSUUID: uuid.NewSHA1(vch, []byte(id)).String()}
}

func containerID(vch uuid.UUID, cluster, machine string) string {
	sum := sha256.Sum256([]byte(vch.String() + "\x00" + cluster + "\x00" + machine))
	id := hex.EncodeToString(sum[:])
	// The short id may become a host name, which must not look like a number (VIC, pkg/uid/uid.go).
	for allDecimal(id[:ShortLength]) {
		sum = sha256.Sum256([]byte(id))
		id = hex.EncodeToString(sum[:])
	}
	return id
}

func allDecimal(s string) bool { return strings.Trim(s, "0123456789") == "" }

// ShortID returns the first 12 digits of the container id.
func (i Identity) ShortID() string { return i.ContainerID[:ShortLength] }

// ProviderID returns vch://<appliance BIOS UUID>/<container id>. It depends on
// no name or place, so vMotion, rename and datastore moves leave it unchanged.
func (i Identity) ProviderID() string {
	return fmt.Sprintf("%s://%s/%s", Scheme, i.VCH, i.ContainerID)
}

var providerIDPattern = regexp.MustCompile("^" + Scheme + "://([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/([0-9a-f]{64})$")

// ParseProviderID is the strict inverse of Identity.ProviderID: any other
// spelling is InvalidArgument, never a fallback to another lookup.
func ParseProviderID(s string) (Identity, error) {
	m := providerIDPattern.FindStringSubmatch(s)
	if m == nil {
		return Identity{}, errdefs.New(errdefs.InvalidArgument, "provider id %q is not of the form %s://<appliance BIOS UUID>/<64 hex digits>", s, Scheme)
	}
	u, err := uuid.Parse(m[1])
	if err != nil {
		return Identity{}, errdefs.Wrap(errdefs.InvalidArgument, err, "parse provider id %q", s)
	}
	return fromContainerID(u, m[2]), nil
}
