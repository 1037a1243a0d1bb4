// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// MarkAnnotation is the annotation of the executor configuration that holds the
// mark. Annotations have VIC's hidden scope: the guest can neither read nor
// forge them.
const MarkAnnotation = "mcm-vch-mark"

// Prefixes of the two tags that every ProviderSpec must bear.
const (
	ClusterTagPrefix = "kubernetes.io/cluster/"
	RoleTagPrefix    = "kubernetes.io/role/"
)

// Tags returns cluster and role, the rests of the two mandatory tag keys.
// Exactly one tag of each prefix with a non-empty rest must be there: an empty
// identity would make every VM ours, so it is InvalidArgument.
func Tags(tags map[string]string) (cluster, role string, err error) {
	for key := range tags {
		for _, t := range []struct {
			prefix string
			to     *string
		}{{ClusterTagPrefix, &cluster}, {RoleTagPrefix, &role}} {
			rest, ok := strings.CutPrefix(key, t.prefix)
			if !ok {
				continue
			}
			if rest == "" {
				return "", "", errdefs.New(errdefs.InvalidArgument, "tags: key %q needs a name after the last slash", key)
			}
			if *t.to != "" {
				return "", "", errdefs.New(errdefs.InvalidArgument, "tags: more than one key begins with %q", t.prefix)
			}
			*t.to = rest
		}
	}
	if cluster == "" || role == "" {
		return "", "", errdefs.New(errdefs.InvalidArgument, "tags: one key %s<name> and one key %s<name> are required", ClusterTagPrefix, RoleTagPrefix)
	}
	return cluster, role, nil
}

// Mark proves that a container VM is a machine of ours, and whose.
type Mark struct {
	// Cluster and Role are the rests of the two mandatory tags.
	Cluster string `json:"cluster"`
	Role    string `json:"role"`
	// Machine is the Machine's name.
	Machine string `json:"machine"`
	// Provider is the version of the provider that created the VM; it takes no part in Owns.
	Provider string `json:"provider"`
	// Spec is a digest of the parts of the ProviderSpec that shaped the VM,
	// so that a repeated Create can tell "the same" from "something else".
	Spec string `json:"spec,omitempty"`
	// Format is the version of the mark: MarkFormat for one that is made today. The first
	// releases wrote none, which is format 1.
	Format int `json:"format,omitempty"`
	// Digest is the scheme that Spec was made with, from format 2 on.
	Digest int `json:"digest,omitempty"`
}

// MarkFormat is the format of marks that are made today. Each format has all fields of
// the ones before, so that an older provider still finds its machines; a newer format
// than its own it only reads.
const MarkFormat = 2

// DigestScheme says how a digest of a ProviderSpec is made today. Digests of different
// schemes say nothing about each other.
const DigestScheme = 1

// Encode returns the mark as it stands in the annotation: one line of JSON
// without '|', which VIC's encoding could not carry in a list.
func (m Mark) Encode() (string, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return "", errdefs.Wrap(errdefs.Internal, err, "encode the mark of machine %s", m.Machine)
	}
	return string(b), nil
}

// DecodeMark reads a mark. Anything but a complete mark is an error: a VM with
// half a mark is not ours.
func DecodeMark(s string) (Mark, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	var m Mark
	if err := d.Decode(&m); err != nil {
		return Mark{}, errdefs.Wrap(errdefs.InvalidArgument, err, "decode mark")
	}
	if d.More() || m.Cluster == "" || m.Role == "" || m.Machine == "" {
		return Mark{}, errdefs.New(errdefs.InvalidArgument, "mark is incomplete: cluster, role and machine are required")
	}
	return m, nil
}

// Owns reports whether both marks name the same cluster, role and machine.
func (m Mark) Owns(other Mark) bool {
	return m.Cluster == other.Cluster && m.Role == other.Role && m.Machine == other.Machine
}
