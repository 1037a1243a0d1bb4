// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore

import (
	"context"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// Migrate brings the data of a store to the latest version of a set, in a new file
// of the store into, which may be the same one. Files that are there are never touched.
//
// Once into has the store that is what is migrated, so that a repeated Migrate does nothing;
// before that it is from, which may be a VCH's. If both are in the same place nothing is written
// without a plugin; if not, the values are brought over all the same. A store that does not exist
// stays so. Data newer than the set is left as it is and never brought over (FailedPrecondition).
//
// The error of a plugin has the plugin's kind; nothing was written then, and after any
// other error neither, unless it is ErrUnknown, which is no harm: Migrate can be repeated. Two
// that migrate at once make one file; the one that came second answers that nothing was to be done.
// Nobody may write into the old version meanwhile: it would not be seen.
func Migrate(ctx context.Context, set *migration.Set, from, into *Store) (migration.Outcome, error) {
	if err := into.mayWrite(); err != nil {
		return migration.Outcome{Target: migration.KeyValue}, err
	}
	ctx, cancel := context.WithTimeout(ctx, into.o.Limit)
	defer cancel()
	for range attempts {
		if o, done, err := migrate(ctx, set, from, into); done || err != nil {
			return o, into.fail(err, "migrate")
		}
	}
	return migration.Outcome{Target: migration.KeyValue}, errdefs.New(errdefs.Aborted, "migrate key/value store %s: others were faster %d times; try again", into, attempts)
}

// migrate tries once. It is not done if somebody was faster.
func migrate(ctx context.Context, set *migration.Set, from, into *Store) (o migration.Outcome, done bool, err error) {
	o.Target = migration.KeyValue
	there, seen, err := into.read(ctx)
	if err != nil {
		return o, false, err
	}
	data := there
	if !there.Exists {
		if data, err = from.Read(ctx); err != nil {
			return o, false, err
		}
	}
	if !data.Exists {
		return o, true, nil
	}
	if o, err = set.MigrateFrom(migration.KeyValue, data.Version, texts(data.Values)); err != nil {
		return o, false, err
	}
	if there.Exists && !o.Migrated() {
		return o, true, nil
	}
	if err := o.Writable("a copy of " + data.File); err != nil {
		return o, false, err
	}
	content, err := Encode(values(o.Keys, data.Values))
	if err != nil {
		return o, false, err
	}
	done, err = into.publish(ctx, seen, place{version: o.To}, content)
	return o, done, err
}

// texts are values as plugins have them.
func texts(values map[string][]byte) map[string]string {
	out := make(map[string]string, len(values))
	for key, value := range values {
		out[key] = string(value)
	}
	return out
}

// values are texts as stores have them. An empty one that was null stays so.
func values(texts map[string]string, before map[string][]byte) map[string][]byte {
	out := make(map[string][]byte, len(texts))
	for key, text := range texts {
		if old, there := before[key]; text == "" && there && old == nil {
			out[key] = nil
			continue
		}
		out[key] = []byte(text)
	}
	return out
}
