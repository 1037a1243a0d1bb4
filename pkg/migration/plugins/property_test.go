// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
)

// pool is what maps are made of: the keys and values of all golden maps of some kinds,
// values that are odd anywhere, and the values that a key has in golden maps.
type pool struct {
	keys, values []string
	own          map[string][]string
}

func newPool(tb testing.TB, dirs ...string) pool {
	tb.Helper()
	keys, values, own := map[string]bool{}, map[string]bool{}, map[string][]string{}
	for _, dir := range dirs {
		for _, name := range cases(tb, dir) {
			for key, value := range readMap(tb, dir, name+".before.json") {
				keys[key], values[value] = true, true
				own[key] = append(own[key], value)
			}
		}
	}
	for _, value := range []string{
		"", "-1", "-2", "0", "1", "2", "3", "7", "8", "9", "10", "11", "65535", "9223372036854775807", "9223372036854775808", "true", "x",
		"<nil>", "|", "a|", "||", "=", "a=b=c", "/", "//", ":", "a:5000", "a/b", "a|b", "vicadmin", "vicadmin|", "HTTP_PROXY=x|HTTP_PROXY=y", "\x00", "\xff", "~",
	} {
		values[value] = true
	}
	for key := range own {
		slices.Sort(own[key]) // maps have no order, and seeds should mean something
	}
	return pool{slices.Sorted(maps.Keys(keys)), slices.Sorted(maps.Keys(values)), own}
}

// appliancePool and containerPool have the keys that plugins read more often than others.
func appliancePool(tb testing.TB) pool {
	return newPool(tb, "registry-hosts", "registry-texts", "admin-proxy", "appliance-name")
}

func containerPool(tb testing.TB) pool {
	return newPool(tb, "container-name", "create-time-nanoseconds", "mark-format")
}

// mapOf makes a map of bytes. Each entry is a choice of a key, a choice of a value, and a
// byte that says what becomes of the choice: mostly a value that the key has in golden maps, else
// one of others, or the text that follows. The same bytes give the same map, as
// long as nobody adds to the pool.
func (p pool) mapOf(data []byte) map[string]string {
	out := map[string]string{}
	text := func() string {
		if len(data) == 0 {
			return ""
		}
		n := min(int(data[0])%48, len(data)-1)
		s := string(data[1 : 1+n])
		data = data[1+n:]
		return s
	}
	for len(data) >= 5 {
		choice := int(binary.LittleEndian.Uint16(data[2:]))
		key := p.keys[int(binary.LittleEndian.Uint16(data))%len(p.keys)]
		value, how := p.own[key][choice%len(p.own[key])], data[4]%16
		data = data[5:]
		switch how {
		case 0:
			key = text()
		case 1:
			key += text()
		case 2:
			value = text()
		case 3:
			value += text()
		case 4, 5:
			value = p.values[choice%len(p.values)]
		}
		out[key] = value
	}
	return out
}

// random makes a map at random: a golden one, or none, that some entries were added to.
func (p pool) random(r *rand.Rand, whole []map[string]string) map[string]string {
	data := make([]byte, r.IntN(400))
	for i := range data {
		data[i] = byte(r.IntN(256))
	}
	out := map[string]string{}
	if r.IntN(2) == 0 {
		out = maps.Clone(whole[r.IntN(len(whole))])
		for _, key := range slices.Sorted(maps.Keys(out)) {
			if r.IntN(10) == 0 {
				delete(out, key)
			}
		}
	}
	maps.Copy(out, p.mapOf(data))
	return out
}

func TestWhateverAMapHasTheMigrationKeepsItsPromises(t *testing.T) {
	for name, from := range map[string]struct {
		pool pool
		dirs []string
	}{
		"appliances": {appliancePool(t), []string{"appliance", "registry-texts", "admin-proxy"}},
		"containers": {containerPool(t), []string{"container", "machine", "mark-format"}},
		"both":       {newPool(t, "appliance", "container", "machine", "registry-texts"), []string{"appliance", "machine"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var whole []map[string]string
			for _, dir := range from.dirs {
				for _, name := range cases(t, dir) {
					whole = append(whole, readMap(t, dir, name+".before.json"))
				}
			}
			for seed := range uint64(100) {
				in := from.pool.random(rand.New(rand.NewPCG(seed, 6)), whole)
				if wantPromises(t, in); t.Failed() {
					t.Fatalf("seed %d: %q", seed, in)
				}
			}
		})
	}
}

// The pools would be of no use if hardly any of their maps had something to be migrated.
func TestRandomMapsReachEveryPlugin(t *testing.T) {
	changed := map[string]int{}
	count := func(p pool, target migration.Target, dir string) {
		for seed := range uint64(300) {
			in := p.random(rand.New(rand.NewPCG(seed, 6)), []map[string]string{readMap(t, dir, "v0.before.json")})
			o, err := plugins.Shipped().Migrate(target, in)
			if err != nil {
				changed["error"]++
			}
			for _, step := range o.Steps {
				if len(step.Change.Set) > 0 {
					changed[step.Plugin.Name]++
				}
			}
		}
	}
	count(appliancePool(t), migration.Appliance, "appliance")
	count(containerPool(t), migration.Container, "container")
	count(containerPool(t), migration.Machine, "machine")
	for _, p := range all() {
		if changed[p.Name] < 5 {
			t.Errorf("%s changed %d maps", p.Name, changed[p.Name])
		}
	}
	if changed["error"] < 5 {
		t.Errorf("%d maps could not be migrated", changed["error"])
	}
	t.Logf("%v", changed)
}

func FuzzMigrateAppliance(f *testing.F) {
	fuzz(f, appliancePool(f), "appliance", "registry-hosts", "registry-texts", "admin-proxy", "appliance-name")
}

func FuzzMigrateContainer(f *testing.F) {
	fuzz(f, containerPool(f), "container", "machine", "container-name", "create-time-nanoseconds", "mark-format")
}

// fuzz changes the golden maps of some kinds by bytes: the first two choose a map.
func fuzz(f *testing.F, p pool, dirs ...string) {
	f.Helper()
	base := []map[string]string{{}}
	for _, dir := range dirs {
		for _, name := range cases(f, dir) {
			base = append(base, readMap(f, dir, name+".before.json"))
		}
	}
	for i := range base {
		f.Add(binary.LittleEndian.AppendUint16(nil, uint16(i)))
	}
	r := rand.New(rand.NewPCG(6, 6))
	for range 50 {
		data := make([]byte, 2+r.IntN(60))
		for i := range data {
			data[i] = byte(r.IntN(256))
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 {
			t.Skip("no choice")
		}
		in := maps.Clone(base[int(binary.LittleEndian.Uint16(data))%len(base)])
		maps.Copy(in, p.mapOf(data[2:]))
		if wantPromises(t, in); t.Failed() {
			t.Logf("%q", in)
		}
	})
}

// FuzzMark: whatever stands where the mark is, a machine stays the machine that it was.
func FuzzMark(f *testing.F) {
	for _, name := range cases(f, "mark-format") {
		f.Add(readMap(f, "mark-format", name+".before.json")[markKey()])
	}
	for _, format := range []string{"0", "1.0", "1e0", "-0", "null", `"1"`, "1e400", "2147483648"} {
		f.Add(fmt.Sprintf(`{"cluster":"c","role":"r","machine":"m","format":%s}`, format))
	}
	f.Add(`{"CLUSTER":"c","Role":"r","machine":"m","machine":"n","digest":null}}`)
	f.Add("{\"cluster\":\"\xff\",\"role\":\"\u2028\",\"machine\":\"m\"} ")
	f.Fuzz(func(t *testing.T, encoded string) {
		in := map[string]string{guestinfo.CommonIDKey: "id", guestinfo.PluginVersionKey: "10", markKey(): encoded}
		wantPromises(t, in)
		v, err := plugins.Shipped().MigrateVM(in)
		was, noMark := identity.DecodeMark(encoded)
		if noMark != nil {
			if err != nil || v.Migrated() {
				t.Errorf("what is no mark gives %+v, %v", v, err)
			}
			return
		}
		is, _ := identity.DecodeMark(v.Keys[markKey()])
		if !is.Owns(was) || (err == nil) != (was.Format >= 0) || (err == nil && (is.Format < 2 || was.Format < 2 && is.Digest == 0)) {
			t.Errorf("%+v became %+v, %v", was, is, err)
		}
	})
}
