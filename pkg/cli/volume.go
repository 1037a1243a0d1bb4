// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/locations"
)

func volumeCommand(opts Options) *cobra.Command {
	return group("volume", "Keep the volumes that machines and containers have",
		volumeCreateCommand(opts), volumeListCommand(opts), volumeInspectCommand(opts), volumeRemoveCommand(opts), volumePruneCommand(opts))
}

// volumeInfo is a volume as the commands show it. The JSON names are for scripts:
// they stay.
type volumeInfo struct {
	volume.Volume
	// Anonymous says that it was made for one machine, without a name of its own.
	Anonymous bool `json:"anonymous"`
	// FileSystemLabel is how a guest finds the disk; empty on NFS.
	FileSystemLabel string `json:"fileSystemLabel,omitempty"`
	// Users are the VMs that have it, or may have it. UsersError says why they are
	// not known.
	Users      []volume.User `json:"users"`
	UsersError string        `json:"usersError,omitempty"`
	VCH        string        `json:"vch"`
}

// dangling reports whether it is sure that no VM has the volume.
func (v *volumeInfo) dangling() bool { return v.UsersError == "" && len(v.Users) == 0 }

func newVolumeInfo(v volume.Volume, host string) volumeInfo {
	info := volumeInfo{Volume: v, Anonymous: v.Anonymous(), Users: []volume.User{}, VCH: host}
	if v.Driver == volume.VMDK {
		info.FileSystemLabel = volume.Label(v.Name)
	}
	return info
}

// volumeFlags are what all volume commands have.
type volumeFlags struct{ hostFlags }

// volumes runs fn with the volume stores of the one VCH that the flags select.
func (f *volumeFlags) volumes(ctx context.Context, opts Options, fn func(context.Context, *vch.Config, *volume.Set) error) error {
	return f.host(ctx, opts, func(ctx context.Context, client *vcenter.Client, host *vch.Config) error {
		return fn(ctx, host, volumesOf(opts, client, host))
	})
}

// volumesOf returns the volume stores of a VCH.
func volumesOf(opts Options, client *vcenter.Client, host *vch.Config) *volume.Set {
	if opts.Volumes != nil {
		return opts.Volumes(client, host)
	}
	return locations.Open(locations.Options{Client: client, Host: host, Owner: opts.Owner, Clock: opts.Clock})
}

// addStore adds --store of the commands that are about volumes by name.
func addStore(cmd *cobra.Command, store *string, usage string) {
	cmd.Flags().StringVar(store, "store", "", "label of the volume store"+usage)
}

// fillUsers adds to volumes of one VCH who has them, in one look for each store:
// two stores may have a volume of the same name. Volumes whose users cannot be told
// say so, and the error has it, too.
func fillUsers(ctx context.Context, set *volume.Set, volumes []volumeInfo) error {
	of := map[string][]*volumeInfo{} // by store
	for i := range volumes {
		v := &volumes[i]
		// Something damaged may have a name that no volume can have.
		if err := volume.ValidateName(v.Name); err != nil {
			v.UsersError = err.Error()
			continue
		}
		of[v.Store] = append(of[v.Store], v)
	}
	var errs []error
	for _, label := range slices.Sorted(maps.Keys(of)) {
		names := make([]string, 0, len(of[label]))
		for _, v := range of[label] {
			names = append(names, v.Name)
		}
		var users map[string][]volume.User
		store, err := set.Store(label)
		if err == nil {
			users, err = store.Users(ctx, names...)
		}
		if err != nil {
			err = errdefs.Wrap(errdefs.KindOf(err), err, "who has the volumes of store %s cannot be told", label)
			errs = append(errs, err)
		}
		for _, v := range of[label] {
			if v.Users = append(v.Users, users[v.Name]...); err != nil {
				v.UsersError = err.Error()
			}
		}
	}
	return errors.Join(errs...)
}

// findVolume returns the volume of a name, from the store with a label if one is
// given. Where two stores have the name and none is given, it returns both.
func findVolume(ctx context.Context, set *volume.Set, label, name string) ([]volume.Volume, error) {
	if err := volume.ValidateName(name); err != nil {
		return nil, err
	}
	if label != "" {
		store, err := set.Store(label)
		if err != nil {
			return nil, err
		}
		v, err := store.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		return []volume.Volume{*v}, nil
	}
	v, err := set.Get(ctx, name)
	if err == nil {
		return []volume.Volume{*v}, nil
	}
	if !errdefs.Is(err, errdefs.FailedPrecondition) {
		return nil, err
	}
	var found []volume.Volume
	for _, label := range set.Labels() {
		if one, getErr := findVolume(ctx, set, label, name); getErr == nil {
			found = append(found, one...)
		}
	}
	if len(found) < 2 {
		return nil, err
	}
	for i := range found {
		found[i].Damage = strings.TrimPrefix(found[i].Damage+"; "+twiceText(found), "; ")
	}
	return found, nil
}

// twiceText says that stores have a volume of the same name.
func twiceText(volumes []volume.Volume) string {
	stores := make([]string, 0, len(volumes))
	for _, v := range volumes {
		stores = append(stores, v.Store+" ("+v.Location+")")
	}
	return "stores " + strings.Join(stores, " and ") + " have a volume of this name, and the VCH sees one of them by chance"
}

// capacityText writes the capacity of a volume as --capacity takes it; empty if
// there is none.
func capacityText(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return sizeText(bytes)
}

// parseVolumeCapacity reads --capacity. Empty is 0, which means the default.
func parseVolumeCapacity(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	const want = "--capacity %q: want whole MiB between 8Mi and 2Ti, such as 10Gi"
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, errdefs.New(errdefs.InvalidArgument, want, text)
	}
	bytes, exact := quantity.AsInt64()
	if !exact || volume.ValidateCapacity(bytes) != nil {
		return 0, errdefs.New(errdefs.InvalidArgument, want, text)
	}
	return bytes, nil
}

// parsePairs reads values such as key=value. As in docker, the last of a key counts,
// and a key alone has an empty value.
func parsePairs(flag string, pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		if key == "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "%s %q: want key=value", flag, pair)
		}
		out[key] = value
	}
	return out, nil
}

// note tells something about an answer, beside it.
func note(opts Options, format string, args ...any) error {
	if _, err := fmt.Fprintln(opts.Stderr, oneLine(fmt.Sprintf(format, args...))); err != nil {
		return errdefs.Wrap(errdefs.Unavailable, err, "write a note")
	}
	return nil
}
