// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
)

// testKey is a key whose digest consists of one digit.
func testKey(digit string, mebibytes int64) image.Key {
	return image.Key{Digest: digestPrefix + strings.Repeat(digit, 64), Size: mebibytes << 20}
}

const (
	idA = "0123456789abcdef0123456789abcdef"
	idB = "fedcba9876543210fedcba9876543210"
)

func TestNamesOfFilesAreReadBackAndNothingElseIs(t *testing.T) {
	t.Parallel()
	l := layout{root: "vch-1/mcm-images"}
	key := testKey("a", 8192)
	b := strings.Repeat("a", 64) + "-8192"
	for got, want := range map[string]string{
		l.record(key):        "vch-1/mcm-images/disks/" + b + ".json",
		l.upload(key, idA):   "vch-1/mcm-images/disks/" + b + "." + idA,
		l.lock(key, 3):       "vch-1/mcm-images/locks/" + b + ".3",
		l.name("x", 64<<20):  "vch-1/mcm-images/names/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881-64.json",
		layout{"m"}.disks():  "m/disks",
		layout{"mm"}.locks(): "mm/locks",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if k, ok := parseRecord(b + ".json"); !ok || k != key {
		t.Errorf("record: %v, %v", k, ok)
	}
	if k, id, ok := parseUpload(b + "." + idA); !ok || k != key || id != idA {
		t.Errorf("upload: %v, %v, %v", k, id, ok)
	}
	if k, n, ok := parseLock(b + ".12"); !ok || k != key || n != 12 {
		t.Errorf("lock: %v, %v, %v", k, n, ok)
	}
	for _, s := range []string{
		"", ".", "..", "x", b, b + ".", b + ".json.json", b + ".JSON", " " + b + ".json", b + ".0", b + ".01", b + ".-1", b + ".+1", b + ".99999999999", b + ".1.2",
		strings.ToUpper(b) + ".json", strings.Repeat("a", 64) + "-08192.json", strings.Repeat("a", 64) + "-63.json", strings.Repeat("a", 64) + "--64.json",
		strings.Repeat("a", 64) + "-99999999999999999999.json", strings.Repeat("a", 64) + "-17592186044480.json", strings.Repeat("a", 63) + "-64.json",
		b + "." + strings.ToUpper(idA), b + "." + idA + "0", b + "." + idA[1:], b + "." + idA + ".json", "../" + b + "." + idA,
	} {
		_, record := parseRecord(s)
		_, _, upload := parseUpload(s)
		_, _, lock := parseLock(s)
		if record || upload || lock {
			t.Errorf("%q is read as a record: %v, upload: %v, lock: %v", s, record, upload, lock)
		}
	}
}

func FuzzNames(f *testing.F) {
	l := layout{}
	f.Add("x.json")
	f.Add(l.record(testKey("1", 64))[len("disks/"):])
	f.Add(l.upload(testKey("1", 64), idA)[len("disks/"):])
	f.Add(l.lock(testKey("1", 64), 7)[len("locks/"):])
	f.Fuzz(func(t *testing.T, s string) {
		if key, ok := parseRecord(s); ok && l.record(key) != "disks/"+s {
			t.Errorf("%q is not read back as a record", s)
		}
		if key, id, ok := parseUpload(s); ok && l.upload(key, id) != "disks/"+s {
			t.Errorf("%q is not read back as an upload", s)
		}
		if key, n, ok := parseLock(s); ok && l.lock(key, n) != "locks/"+s {
			t.Errorf("%q is not read back as a lock", s)
		}
	})
}

func testRecord(key image.Key, id string) record {
	return record{
		Format: recordFormat, Key: key, Upload: id, Created: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC),
		Description: image.Description{
			ConfigDigest: "sha256:" + strings.Repeat("c", 64), UsedBytes: 12345,
			Config: image.Config{Entrypoint: []string{"/bin/a", ""}, Env: []string{"A=\"ü\"\n"}, Volumes: []string{"/x"}},
		},
	}
}

func TestRecordsAreReadStrictly(t *testing.T) {
	t.Parallel()
	good := testRecord(testKey("a", 64), idA)
	good.Top, good.Name = "5a0b-id", "registry.example.com/node:v1"
	b, err := good.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(good, *got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	text := string(b)
	for what, bad := range map[string]string{
		"nothing":                "",
		"half":                   text[:len(text)/2],
		"all but the last brace": strings.TrimRight(text, "}\n"),
		"something behind":       text + "{}",
		"another form":           "[]",
		"null":                   "null",
		"an unknown field":       strings.Replace(text, `"upload"`, `"more": 1, "upload"`, 1),
		"no format":              strings.Replace(text, `"format": 1`, `"format": 0`, 1),
		"another digest":         strings.Replace(text, "sha256:aaaa", "sha512:aaaa", 1),
		"a size of no MiB":       strings.Replace(text, "67108864", "67108865", 1),
		"an upload that climbs":  strings.Replace(text, idA, "../../../../../../../../../../..", 1),
		"a top that climbs":      strings.Replace(text, "5a0b-id", "..", 1),
		"a top of two":           strings.Replace(text, "5a0b-id", "a/b", 1),
		"more used than there":   strings.Replace(text, "12345", "67108865", 1),
		"less than nothing used": strings.Replace(text, "12345", "-1", 1),
		"no time":                strings.Replace(text, "2026-01-02T03:04:05.000000678Z", "0001-01-01T00:00:00Z", 1),
	} {
		if bad == text {
			t.Fatalf("%s: the text was not changed", what)
		}
		if r, err := decodeRecord([]byte(bad)); err == nil {
			t.Errorf("%s is taken for a record: %+v", what, r)
		}
	}
	// A later release may say more, and means something else then.
	newer := strings.Replace(strings.Replace(text, `"format": 1`, `"format": 2`, 1), `"upload"`, `"more": 1, "upload"`, 1)
	if _, err := decodeRecord([]byte(newer)); err != errNewer { //nolint:errorlint // it is returned as it is
		t.Errorf("a record of a later release: %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	b, err := testRecord(testKey("a", 64), idA).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"top":".."}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		if r.Validate() != nil || !uploadPattern.MatchString(r.Upload) || strings.ContainsAny(r.Top, "/\\") || r.Top == ".." {
			t.Errorf("%q was taken for a record: %+v", b, r)
		}
		again, err := r.encode()
		if err != nil {
			return // a time that has no text
		}
		if _, err := decodeRecord(again); err != nil {
			t.Errorf("what was read is not read again: %v", err)
		}
	})
}

func TestAHolderIsDeadOnlyAfterItWasSeenSilent(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0) }
	type look struct {
		content       string
		before, after int
		alive, dead   bool
	}
	for what, looks := range map[string][]look{
		"silent for a minute":                   {{"a", 0, 0, false, false}, {"a", 30, 30, false, false}, {"a", 60, 60, false, true}},
		"a beat begins the minute anew":         {{"a", 0, 0, false, false}, {"b", 59, 59, true, false}, {"b", 118, 118, false, false}, {"b", 119, 119, false, true}},
		"a slow first read counts from its end": {{"a", 0, 50, false, false}, {"a", 100, 100, false, false}, {"a", 110, 110, false, true}},
		"a slow last read counts to its begin":  {{"a", 0, 0, false, false}, {"a", 5, 500, false, false}, {"a", 500, 500, false, true}},
		"an empty file can be silent, too":      {{"", 0, 0, false, false}, {"", 60, 60, false, true}},
		"a process that slept sees it anew":     {{"a", 0, 0, false, false}, {"b", 5000, 5000, true, false}, {"b", 5010, 5010, false, false}},
	} {
		var w watch
		for i, l := range looks {
			if alive, dead := w.look([]byte(l.content), at(l.before), at(l.after), time.Minute); alive != l.alive || dead != l.dead {
				t.Errorf("%s, look %d: alive %v, dead %v", what, i, alive, dead)
			}
		}
	}
}

func TestProgressOfOthersMakesSenseWhateverTheirFileHolds(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]image.Progress{
		`{"owner":"a","stage":"converting","done":62,"total":100}`: {Stage: image.Converting, Done: 62, Total: 100, Owner: "a"},
		`{"owner":"a","stage":"new stage","done":-1,"total":-1}`:   {Stage: image.Waiting, Owner: "a"},
		`{"owner":"a","stage":"uploading","done":9,"total":3}`:     {Stage: image.Uploading, Done: 3, Total: 3, Owner: "a"},
		`{"owner":"","stage":"uploading"}`:                         {Stage: image.Uploading, Owner: "another process"},
		`{"owner":"a","sta`:                                        {Stage: image.Waiting, Owner: "another process"},
		``:                                                         {Stage: image.Waiting, Owner: "another process"},
	} {
		if got := progressOf([]byte(content)); got != want {
			t.Errorf("%s: %+v, want %+v", content, got, want)
		}
	}
}

func TestReportsOfOneProcessNeverGoBack(t *testing.T) {
	t.Parallel()
	var got []string
	report := forward(func(p image.Progress) { got = append(got, p.String()) })
	for _, p := range []image.Progress{
		{Stage: image.Converting, Owner: "b"},
		{Stage: image.Downloading},
		{Stage: image.Uploading},
		{Stage: image.Waiting, Owner: "b"},
		{Stage: image.Downloading},
		{Stage: image.Uploading, Done: 1, Total: 2},
		{Stage: image.Publishing},
	} {
		report(p)
	}
	want := []string{"converting (by b)", "downloading", "uploading", "waiting (by b)", "uploading, 50 %", "publishing"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	forward(nil)(image.Progress{Stage: image.Waiting})
}

// planStore is a store that can only think.
func planStore(kind string) *Store {
	return &Store{
		files:     datastore.New(datastore.Options{Name: "ds1"}),
		layout:    layout{root: "vch-1/mcm-images"},
		datastore: vch.Datastore{Type: kind},
		o:         Options{Stale: time.Minute, Host: &vch.Config{ImageStore: vch.StorePath{Datastore: "ds1", Path: "vch-1"}}},
	}
}

func TestWhatIsALeftover(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	fresh, old := now.Add(-time.Minute), now.Add(-time.Hour)
	dead := func(m time.Time) bool { return now.Sub(m) >= deadAge*time.Minute }
	a, b := testKey("a", 64), testKey("b", 64)
	dir := func(name string, at time.Time) datastore.Entry {
		return datastore.Entry{Name: name, Dir: true, Modified: at}
	}
	file := func(name string, at time.Time) datastore.Entry { return datastore.Entry{Name: name, Modified: at} }
	s := planStore("VMFS")
	up := base(a) + "." + idA
	recordA := testRecord(a, idA)
	nameA := recordA
	nameA.Name = "node:v1"
	nameOfA := nameFile("node:v1", a.Size)
	held := map[image.Key]*hold{a: {}}
	for what, tc := range map[string]struct {
		tree     map[string][]datastore.Entry
		records  []record
		spoilt   []image.Key
		reserved []image.Key
		names    map[string]*record
		holders  []virtualdisk.Holder
		own      map[image.Key]*hold
		want     []string
	}{
		"nothing":                                 {},
		"a disk that is published":                {tree: map[string][]datastore.Entry{"disks": {dir(up, old), file(base(a)+".json", old)}}, records: []record{recordA}},
		"an old upload":                           {tree: map[string][]datastore.Entry{"disks": {dir(up, old)}, "disks/" + up: {file(pendingFile, old)}}, want: []string{"disks/" + up + ": upload that was cut off"}},
		"a withdrawn disk":                        {tree: map[string][]datastore.Entry{"disks": {dir(up, old)}, "disks/" + up: {file(withdrawnFile(strings.Repeat("b", 32)), old)}}, want: []string{"disks/" + up + ": disk that was withdrawn"}},
		"a doomed disk":                           {tree: map[string][]datastore.Entry{"disks": {dir(up, old)}, "disks/" + up: {file(doomedFile, old)}}, want: []string{"disks/" + up + ": disk whose deletion was cut off"}},
		"an empty directory of a disk":            {tree: map[string][]datastore.Entry{"disks": {dir(up, old)}}, want: []string{"disks/" + up + ": disk whose deletion was cut off"}},
		"an upload that was just begun":           {tree: map[string][]datastore.Entry{"disks": {dir(up, fresh)}}},
		"one in which something was just written": {tree: map[string][]datastore.Entry{"disks": {dir(up, old)}, "disks/" + up: {file(flatFile, fresh)}}},
		"an upload without any time":              {tree: map[string][]datastore.Entry{"disks": {dir(up, time.Time{})}}, want: []string{"disks/" + up + ": disk whose deletion was cut off"}},
		"a second upload of a disk":               {tree: map[string][]datastore.Entry{"disks": {dir(up, old), dir(base(a)+"."+idB, old)}}, records: []record{recordA}, want: []string{"disks/" + base(a) + "." + idB + ": disk whose deletion was cut off"}},
		"an old upload with a live lock":          {tree: map[string][]datastore.Entry{"disks": {dir(up, old)}, "locks": {dir(base(a)+".1", old)}, "locks/" + base(a) + ".1": {file(ownerFile, fresh)}}},
		"the live lock of another disk":           {tree: map[string][]datastore.Entry{"disks": {dir(up, old)}, "locks": {dir(base(b)+".1", fresh)}}, want: []string{"disks/" + up + ": disk whose deletion was cut off"}},
		"a lock of two generations, one live":     {tree: map[string][]datastore.Entry{"locks": {dir(base(a)+".1", old), dir(base(a)+".2", fresh)}}},
		"a lock of two generations, both dead":    {tree: map[string][]datastore.Entry{"locks": {dir(base(a)+".1", old), dir(base(a)+".2", old)}}, want: []string{"locks/" + base(a) + ".1: lock of a process that ended", "locks/" + base(a) + ".2: lock of a process that ended"}},
		"a lock of ours":                          {tree: map[string][]datastore.Entry{"disks": {dir(up, fresh)}, "locks": {dir(base(a)+".1", old)}}, own: held, want: []string{"disks/" + up + ": disk whose deletion was cut off"}},
		"a name that leads to its disk":           {tree: map[string][]datastore.Entry{"names": {file(nameOfA, old)}, "disks": {dir(up, old)}}, records: []record{recordA}, names: map[string]*record{nameOfA: &nameA}},
		"a name without a disk":                   {tree: map[string][]datastore.Entry{"names": {file(nameOfA, old)}}, names: map[string]*record{nameOfA: &nameA}, want: []string{"names/" + nameOfA + ": name that leads to no disk"}},
		"a new name without a disk":               {tree: map[string][]datastore.Entry{"names": {file(nameOfA, fresh)}}, names: map[string]*record{nameOfA: &nameA}},
		"a name of another upload":                {tree: map[string][]datastore.Entry{"names": {file(nameOfA, old)}}, records: []record{testRecord(a, idB)}, names: map[string]*record{nameOfA: &nameA}, want: []string{"names/" + nameOfA + ": name that leads to no disk"}},
		"a name of a disk that somebody is at":    {tree: map[string][]datastore.Entry{"names": {file(nameOfA, old)}, "locks": {dir(base(a)+".1", fresh)}}, names: map[string]*record{nameOfA: &nameA}},
		"half a name":                             {tree: map[string][]datastore.Entry{"names": {file(nameOfA, old)}}, want: []string{"names/" + nameOfA + ": name that cannot be read"}},
		"a spoilt record":                         {tree: map[string][]datastore.Entry{"disks": {file(base(a)+".json", old)}}, spoilt: []image.Key{a}, want: []string{"disks/" + base(a) + ".json: record that cannot be read"}},
		"all that a later release has":            {tree: map[string][]datastore.Entry{"disks": {file(base(a)+".json", old), dir(up, old)}, "locks": {dir(base(a)+".1", old)}}, reserved: []image.Key{a}},
		"the VM of an import":                     {holders: []virtualdisk.Holder{{Name: "vm", Mark: virtualdisk.Mark{Subject: a.Digest, Size: a.Size, Attempt: idA}}}, want: []string{"vm: VM of an import that was cut off"}},
		"the VM of an import under way":           {tree: map[string][]datastore.Entry{"locks": {dir(base(a)+".1", fresh)}}, holders: []virtualdisk.Holder{{Name: "vm", Mark: virtualdisk.Mark{Subject: a.Digest, Size: a.Size, Attempt: idA}}}},
		"a VM of no image":                        {holders: []virtualdisk.Holder{{Name: "vm", Mark: virtualdisk.Mark{Subject: "data", Size: a.Size, Attempt: idA}}}},
		"what others put there": {tree: map[string][]datastore.Entry{
			"":      {file("readme", old), dir("other", old), dir("disks", old)},
			"other": {dir(up, old)},
			"disks": {file("readme.txt", old), dir("backup", old), file(up, old), dir(base(a)+".json", old), dir(base(a), old), dir(strings.ToUpper(up), old)},
			"names": {file("x.json", old), dir(nameOfA, old), file("x", old)},
			"locks": {dir("x", old), file(base(a)+".1", old), dir(base(a)+".x", old)},
		}},
	} {
		snap, _ := survey(tc.tree)
		for _, r := range tc.records {
			snap.records[r.Key] = &r
		}
		for _, key := range tc.spoilt {
			snap.unreadable[key] = true
		}
		for _, key := range tc.reserved {
			snap.reserved[key] = true
		}
		for i := range snap.names {
			snap.names[i].record = tc.names[snap.names[i].file]
		}
		var got []string
		for _, d := range s.debris(snap, tc.holders, dead, tc.own) {
			got = append(got, strings.TrimPrefix(d.Path, "[ds1] vch-1/mcm-images/")+": "+d.Reason)
			if d.ID == "" && d.holder == nil {
				t.Errorf("%s: %s has no ID", what, d.Path)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestWhoUsesADisk(t *testing.T) {
	t.Parallel()
	key := testKey("a", 64)
	disk := "[ds1] vch-1/mcm-images/disks/" + base(key) + "." + idA + "/disk.vmdk"
	own := "[ds1] machine/child.vmdk"
	const no, yes, unproven = "no", "yes", "unproven"
	for what, tc := range map[string]struct {
		kind     string
		files    []string
		unproven bool
		want     string
	}{
		"no files":                       {want: no},
		"other files":                    {files: []string{own, "[ds1] images/node.vmdk"}, want: no},
		"it is its own disk":             {files: []string{disk}, want: yes},
		"a child":                        {files: []string{own, disk}, want: yes},
		"a child on another datastore":   {files: []string{"[ds2] machine/child.vmdk", disk}, want: yes},
		"its extent":                     {files: []string{own, strings.Replace(disk, "disk.vmdk", "disk-flat.vmdk", 1)}, want: yes},
		"the same disk of another store": {files: []string{own, strings.Replace(disk, "vch-1/", "vch-2/", 1)}, want: no},
		"on a datastore of another name": {files: []string{own, strings.Replace(disk, "ds1", "ds2", 1)}, want: no},
		"another disk":                   {files: []string{own, strings.Replace(disk, "-64.", "-128.", 1)}, want: no},
		"an id for the first directory":  {kind: "vsan", files: []string{own, strings.Replace(disk, "vch-1/", "5a0b-11/", 1)}, want: yes},
		"an id on VMFS":                  {kind: "VMFS", files: []string{own, strings.Replace(disk, "vch-1/", "5a0b-11/", 1)}, want: no},
		"deeper below an id":             {kind: "vsan", files: []string{own, strings.Replace(disk, "vch-1/", "5a0b-11/more/", 1)}, want: no},
		"nothing is known":               {unproven: true, want: unproven},
		"not all is known":               {files: []string{own}, unproven: true, want: unproven},
		"a file that is no path":         {files: []string{"nonsense", ""}, want: no},
	} {
		kind := tc.kind
		if kind == "" {
			kind = "VMFS"
		}
		s := planStore(kind)
		all := []inventory.VM{{Ref: types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-1"}, Name: "one", Files: tc.files, Unproven: tc.unproven}}
		got := no
		if users := s.usersOf(all, func(u use) bool { return u.here && u.key == key }); len(users) > 0 {
			got = yes
			if users[0].Unproven {
				got = unproven
			}
			if users[0].Name != "one" || users[0].VM != "vm-1" {
				t.Errorf("%s: %+v", what, users[0])
			}
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", what, got, tc.want)
		}
		// Whatever the place is called: before something is deleted, its id counts.
		if strings.Contains(what, "another name") || strings.Contains(what, "another store") {
			if len(s.usersOf(all, func(u use) bool { return u.id == idA })) != 1 {
				t.Errorf("%s: the upload counts as unused", what)
			}
		}
	}
}
