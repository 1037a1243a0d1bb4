// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"net/url"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// joining are the tests of what VMs are given.
func joining() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"a joint is what VIC would give a VM":                       jointAsVIC,
		"read only is what the store can promise, or refused":       jointReadOnly,
		"to join asks nothing and changes nothing":                  jointSendsNothing,
		"a joint is the same for the volume of Create, Get or List": jointSame,
	}
}

// nfsMode is how VIC has NFS volumes mounted, without the host
// (VIC, lib/portlayer/storage/volume/nfs/join.go:26-40).
const nfsMode = "vers=3,rsize=131072,wsize=131072,hard,proto=tcp,timeo=600,sec=sys,mountvers=3,mountproto=tcp,nolock,addr="

// wantJoint fails the test unless the joint is what VIC would give.
func (f *fixture) wantJoint(v *volume.Volume, m volume.Mount) {
	f.Helper()
	got, err := f.h.Store().Join(v, m)
	if err != nil {
		f.Fatalf("join %s at %+v: %v", v.Name, m, err)
	}
	want := &volume.Joint{Volume: v.Name, Disk: v.Disk, Discard: m.ReadOnly}
	want.Spec = guestinfo.MountSpec{Path: m.Path, CopyMode: guestinfo.CopyNew}
	if m.NoCopy {
		want.Spec.CopyMode = guestinfo.CopyNever
	}
	switch v.Driver {
	case volume.VMDK:
		want.Spec.Source = url.URL{Scheme: "label", Path: volume.Label(v.Name)}
		want.Spec.Mode = "rw"
		if m.ReadOnly {
			want.Spec.Mode = "ro"
		}
	case volume.NFS:
		host, path := got.Spec.Source.Host, got.Spec.Source.Path
		if host == "" || !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/volumes/"+v.Name) {
			f.Errorf("the source is %s", got.Spec.Source.String())
		}
		want.Spec.Source = url.URL{Scheme: "nfs", Host: host, Path: path}
		want.Spec.Mode = nfsMode + host
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("joint of %s at %+v (-want +got):\n%s", v.Name, m, diff)
	}
}

func jointAsVIC(f *fixture) {
	for _, n := range []string{name, "A.b_c-D.9", strings.Repeat("x", volume.MaxName)} {
		v := f.create(n)
		f.wantJoint(v, volume.Mount{Path: "/var/lib/data"})
		f.wantJoint(v, volume.Mount{Path: "/", NoCopy: true})
	}
}

func jointReadOnly(f *fixture) {
	v := f.create(name)
	for _, m := range []volume.Mount{{Path: "/data", ReadOnly: true}, {Path: "/data", ReadOnly: true, NoCopy: true}} {
		if v.Driver == volume.VMDK {
			f.wantJoint(v, m)
			continue
		}
		joint, err := f.h.Store().Join(v, m) // nothing would hold the guest back
		f.wantError("join read only", err, errdefs.InvalidArgument)
		f.wantText(err, name, "/data")
		if joint != nil {
			f.Errorf("the error comes with %v", joint)
		}
	}
}

func jointSendsNothing(f *fixture) {
	v := f.createWritten(name)
	before := *v
	s, wantUntouched := f.untouched()
	if _, err := s.Join(v, volume.Mount{Path: "/data"}); err != nil {
		f.Fatal(err)
	}
	wantUntouched("join")
	if diff := cmp.Diff(before, *v); diff != "" {
		f.Errorf("join changed the volume (-before +after):\n%s", diff)
	}
	f.wantKept(name)
}

func jointSame(f *fixture) {
	made := f.create(name)
	got := f.wantPublished(request(name))
	m := volume.Mount{Path: "/data"}
	for _, v := range []*volume.Volume{made, got, &f.list(f.h.Store())[0]} {
		f.wantJoint(v, m)
		a, _ := f.h.Store().Join(made, m)
		b, _ := f.h.Store().Join(v, m)
		if diff := cmp.Diff(a, b); diff != "" {
			f.Errorf("joints differ:\n%s", diff)
		}
	}
}
