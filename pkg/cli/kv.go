// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/kvstore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

func kvCommand(opts Options) *cobra.Command {
	return group("kv", "Look into the key/value stores of a VCH", kvListCommand(opts), kvGetCommand(opts))
}

// kvStore is a store as the commands show it. The JSON names are for scripts: they stay.
type kvStore struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	Keys    int    `json:"keys"`
	// Size is that of the file in bytes.
	Size int64  `json:"size"`
	File string `json:"file"`
	VCH  string `json:"vch"`
}

// kvKey is a key as the commands show it: without its value.
type kvKey struct {
	Key string `json:"key"`
	// Size is that of the value in bytes.
	Size int `json:"size"`
}

func kvListCommand(opts Options) *cobra.Command {
	var flags hostFlags
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the key/value stores of one or all VCHs",
		Long: `List the key/value stores of one or all VCHs. A VCH's port layer keeps there what
docker knows of images, and its networks. They are only read.

What is shown is what the port layer wrote last.`,
		Example: `  vchctl kv ls --secret-file secret.yaml
  vchctl kv ls --datacenter dc-1 --vch vch-1 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.checkOutput(); err != nil {
				return err
			}
			return flags.hosts(cmd.Context(), opts, func(ctx context.Context, client *vcenter.Client, hosts []*vch.Config, unread error) error {
				errs := []error{unread}
				found := []kvStore{}
				for _, host := range hosts {
					of, err := listKVStores(ctx, client, host)
					found, errs = append(found, of...), append(errs, err)
				}
				// What could be read is shown, even if some store could not.
				err := errors.Join(errs...)
				return errors.Join(writeKVStores(opts, flags.output, found, err != nil), err)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	return cmd
}

// listKVStores reads the stores of a VCH. With an error it has those that could be read.
func listKVStores(ctx context.Context, client *vcenter.Client, host *vch.Config) ([]kvStore, error) {
	files, err := kvFiles(client, host)
	if err != nil {
		return nil, err
	}
	names, err := kvstore.Names(ctx, files, host.KVStores.Path)
	if err != nil {
		return nil, err
	}
	var found []kvStore
	var errs []error
	for _, name := range names {
		snap, err := readKVStore(ctx, files, host, name)
		if err != nil || !snap.Exists {
			errs = append(errs, err)
			continue
		}
		found = append(found, kvStore{Name: name, Version: snap.Version, Keys: len(snap.Values), Size: snap.Size, File: snap.File, VCH: host.Name})
	}
	return found, errors.Join(errs...)
}

// writeKVStores writes stores. With failed an empty list is not called one.
func writeKVStores(opts Options, output string, stores []kvStore, failed bool) error {
	switch {
	case output == outputJSON:
		return writeJSON(opts.Stdout, stores)
	case len(stores) == 0 && failed:
		return nil
	case len(stores) == 0:
		return note(opts, "No key/value stores found.")
	}
	rows := [][]string{{"NAME", "VERSION", "KEYS", "SIZE", "VCH"}}
	for _, s := range stores {
		rows = append(rows, []string{s.Name, strconv.Itoa(s.Version), strconv.Itoa(s.Keys), bytesText(s.Size), s.VCH})
	}
	return writeTable(opts.Stdout, rows)
}

func kvGetCommand(opts Options) *cobra.Command {
	var flags hostFlags
	cmd := &cobra.Command{
		Use:   "get STORE [KEY]",
		Short: "List the keys of a key/value store, or print one value",
		Long: `List the keys of a key/value store of a VCH with the sizes of their values, or, with
KEY, print that value as it is, without a line's end. The store is only read.`,
		Example: `  vchctl kv get --vch vch-1 apiKV
  vchctl kv get --vch vch-1 apiKV docker.images | jq '.CacheByName | keys'`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.checkOutput(); err != nil {
				return err
			}
			if len(args) > 1 && flags.output == outputJSON {
				return errdefs.New(errdefs.InvalidArgument, "--output is for the list of keys; the value of a key is printed as it is")
			}
			return flags.host(cmd.Context(), opts, func(ctx context.Context, client *vcenter.Client, host *vch.Config) error {
				snap, err := findKVStore(ctx, client, host, args[0])
				if err != nil {
					return err
				}
				if len(args) == 1 {
					return writeKVKeys(opts, flags.output, snap.Values)
				}
				value, there := snap.Values[args[1]]
				if !there {
					return errdefs.New(errdefs.NotFound, "%s has no key %q; vchctl kv get %s lists them", snap.File, args[1], args[0])
				}
				return write(opts.Stdout, value)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	return cmd
}

func writeKVKeys(opts Options, output string, values map[string][]byte) error {
	keys := []kvKey{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		keys = append(keys, kvKey{key, len(values[key])})
	}
	switch {
	case output == outputJSON:
		return writeJSON(opts.Stdout, keys)
	case len(keys) == 0:
		return note(opts, "The store is empty.")
	}
	rows := [][]string{{"KEY", "SIZE"}}
	for _, k := range keys {
		rows = append(rows, []string{k.Key, bytesText(int64(k.Size))})
	}
	return writeTable(opts.Stdout, rows)
}

// findKVStore reads a store that must exist.
func findKVStore(ctx context.Context, client *vcenter.Client, host *vch.Config, name string) (*kvstore.Snapshot, error) {
	files, err := kvFiles(client, host)
	if err != nil {
		return nil, err
	}
	snap, err := readKVStore(ctx, files, host, name)
	if err != nil || snap.Exists {
		return snap, err
	}
	names, err := kvstore.Names(ctx, files, host.KVStores.Path)
	if err != nil {
		return nil, err
	}
	has := "none"
	if len(names) > 0 {
		has = strings.Join(names, ", ")
	}
	return nil, errdefs.New(errdefs.NotFound, "VCH %s has no key/value store %q in %s; there are: %s", host.Name, name, host.KVStores, has)
}

func readKVStore(ctx context.Context, files kvstore.Files, host *vch.Config, name string) (*kvstore.Snapshot, error) {
	store, err := kvstore.Open(kvstore.Options{Files: files, Directory: host.KVStores.Path, Name: name, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return store.Read(ctx)
}

// kvFiles returns the files of the datastore that has the stores of a VCH.
func kvFiles(client *vcenter.Client, host *vch.Config) (kvstore.Files, error) {
	at := host.KVStores
	ds, known := host.Datastores[at.Datastore]
	switch {
	case at.Path == "":
		return nil, errdefs.New(errdefs.FailedPrecondition, "VCH %s: its key/value stores are in the directory of its appliance VM, and vCenter does not tell that", host.Name)
	case !known:
		return nil, errdefs.New(errdefs.FailedPrecondition, "VCH %s: its key/value stores are in %s, and its datacenter has no such datastore", host.Name, at)
	case !ds.Accessible:
		return nil, errdefs.New(errdefs.Unavailable, "VCH %s: its key/value stores are in %s, and no host reaches that datastore", host.Name, at)
	}
	return datastore.New(datastore.Options{
		Client: client, Datacenter: host.Datacenter, DatacenterPath: host.DatacenterPath,
		Datastore: ds.Ref, Name: at.Datastore, Type: ds.Type,
	}), nil
}
