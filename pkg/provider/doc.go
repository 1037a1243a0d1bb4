// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package provider is the driver of machine-controller-manager (MCM):
// MachinePlugin implements driver.Driver on top of a spi.PluginSPI.
//
// It is the one place that knows MCM. Each call goes through one prelude: is the
// class ours, decode, default and validate the ProviderSpec, check machine name
// and Secret, set a deadline (MCM sets none), call the SPI, turn the error's
// kind into MCM's code, count and log. Nothing is remembered between calls.
//
// # Errors
//
// MCM does not unwrap errors, it parses their text (machinecodes/status/status.go:100-151)
// and takes the state of a deletion from it (machinecontroller/machine.go:650-671). So
// the status is always the outermost error, and its message has been cleaned:
// brackets in pairs, none of MCM's own phrases, no word OutOfRange unless it is
// meant, no user in a URL, none of the Secret's secrets, one line.
//
// # LastKnownState
//
// The backend computes what a machine is and needs no memory, so LastKnownState
// is never read. For people, it tells the provider id after a success; on an
// error it is empty, which keeps or clears it as MCM's own rules say.
//
// # Volumes
//
// GetVolumeIDs knows volumes of the in-tree vSphere plugin, of vSphere's CSI
// driver and of VolumeDriver, and gives anchored regular expressions, since MCM
// matches them with the names of a Node's attached volumes (drain/drain.go:915).
//
// The package does not talk to vSphere, holds no session, and knows no backend;
// cmd/machine-controller puts one in.
package provider
