// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package guestinfo translates between Go values and the flat string pairs in
// which vSphere Integrated Containers (VIC) keeps the configuration of a
// container VM and of a Virtual Container Host (VCH) in a VM's ExtraConfig.
//
// Words: a key is the name of one ExtraConfig option. The scope of a field says
// who may see it and thereby which shape its key has: hidden keys (no prefix)
// are for the API only, read-only keys (guestinfo.vice./a/b) can be read in the
// guest, read-write keys (guestinfo.vice..a.b) can be written there, secret and
// non-persistent ones end in @secret and @non-persistent. The executor
// configuration is what the tether, VIC's init in the guest, and the VCH's port
// layer read of a container VM.
//
// The encoder writes byte for byte what VIC writes, with one difference: what
// VIC would corrupt silently (a '|' in a list element or map key, entries of a
// guest-visible map that differ but are stored under one key) is refused, with an
// error that names the field. The decoder is as tolerant as
// VIC's: odd values become zero, unknown keys are ignored; only what makes VIC
// panic is an error, naming the key. Secrets are opaque: nothing is decrypted,
// and no error contains a value.
//
// Everything here is pure: maps and bytes in, maps and bytes out, no I/O, no
// state. pkg/vch, pkg/containervm and the command line call it; reading and
// writing ExtraConfig is theirs.
package guestinfo
