// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package locations makes the volume stores that the configuration of a VCH names
// (VolumeLocations), by the scheme of each location: ds is volume/vmdk, nfs is volume/nfs.
//
// Called by pkg/spi/vsphere and pkg/cli.
package locations

import (
	"fmt"
	"net/url"

	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/nfs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/vmdk"
)

// Options of Open. Client and Host are required.
type Options struct {
	// Client is a session with the VCH's vCenter, Host the VCH.
	Client *vcenter.Client
	Host   *vch.Config
	// Owner is what others are told of who makes a volume, such as a host name.
	Owner string
	// Clock is what stores wait by. Default: the real one.
	Clock clock.WithTicker
}

// Open returns the volume stores of a VCH. Nothing is sent, nothing is kept. A
// location that is no good becomes a store that answers every call with what is
// wrong with it: the other stores are of use without it.
func Open(o Options) *volume.Set {
	stores := map[string]volume.Store{}
	for label, location := range o.Host.VolumeStores {
		stores[label] = open(o, label, location)
	}
	return volume.NewSet(o.Host.Name, stores)
}

func open(o Options, label string, location url.URL) volume.Store {
	switch location.Scheme {
	case "nfs":
		return nfs.New(nfs.Options{Client: o.Client, Host: o.Host, Label: label, Location: location})
	case "ds":
		return vmdk.New(vmdk.Options{Client: o.Client, Host: o.Host, Label: label, Location: location, Owner: o.Owner, Clock: o.Clock})
	}
	name := fmt.Sprintf("volume store %s of VCH %s", label, o.Host.Name)
	return &broken{name: name, why: errdefs.New(errdefs.FailedPrecondition,
		"%s: its location has the scheme %q, neither ds nor nfs; correct the VCH with vic-machine configure --volume-store", name, location.Scheme)}
}
