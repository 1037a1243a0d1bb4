// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/kvstore"
)

// inMemory is a place in memory.
func inMemory() (place, *disk) {
	d := newDisk()
	return place{machines: [2]kvstore.Files{&machine{disk: d}, &machine{disk: d}}, directory: "vch-1/ours", writers: 50}, d
}

func TestAStoreInMemoryKeepsItsPromises(t *testing.T) {
	runSuite(t, func(*testing.T) place {
		p, _ := inMemory()
		return p
	})
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	files := &machine{disk: newDisk()}
	tests := []struct {
		name string
		o    kvstore.Options
		want string
	}{
		{"no files", kvstore.Options{Directory: "d", Name: "n"}, "needs files and a directory"},
		{"no directory", kvstore.Options{Files: files, Name: "n"}, "needs files and a directory"},
		{"no name", kvstore.Options{Files: files, Directory: "d"}, "letters, digits, dots and underscores"},
		{"a path", kvstore.Options{Files: files, Directory: "d", Name: "a/b"}, "letters, digits, dots and underscores"},
		{"a pattern", kvstore.Options{Files: files, Directory: "d", Name: "a*"}, "letters, digits, dots and underscores"},
		{"a version", kvstore.Options{Files: files, Directory: "d", Name: "a.v2"}, "leave out .v2"},
		{"little grace", kvstore.Options{Files: files, Directory: "d", Name: "a", Grace: time.Minute}, "at least 10 times the limit"},
		{"no time", kvstore.Options{Files: files, Directory: "d", Name: "a", Limit: -1}, "positive"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := kvstore.Open(test.o)
			wantKind(t, err, errdefs.InvalidArgument, test.want)
		})
	}
}

// TestAStepThatGoesWrongLosesNothing lets each step of an update go wrong, alone and with
// another machine that is faster right before any of the steps.
func TestAStepThatGoesWrongLosesNothing(t *testing.T) {
	for _, how := range modes() {
		for _, start := range []string{"", "apiKV.dat"} {
			t.Run(how.name+start, func(t *testing.T) {
				reached := 0
				for faster := range 8 { // 0: nobody is
					for n := 1; oneWrong(t, how, start, n, faster); n++ {
						reached++
					}
				}
				if reached < 40 {
					t.Errorf("only %d steps went wrong", reached)
				}
			})
		}
	}
}

// oneWrong reports whether the nth step was reached.
func oneWrong(t *testing.T, how mode, start string, n, faster int) bool {
	t.Helper()
	p, d := inMemory()
	if start != "" {
		p.put(t, start, "{}")
	}
	sick := &machine{disk: d}
	struck := sick.strike(n, how)
	fault, taken, others := sick.around, 0, 0
	sick.around = func(what string, do func() error) error {
		if taken++; taken == faster {
			must(t, p.store(t, 1).Update(t.Context(), increment))
			others++
		}
		return fault(what, do)
	}
	called := 0
	s := p.by(sick).store(t, 0)
	err := s.Update(t.Context(), func(values map[string][]byte) error {
		called++
		return increment(values)
	})
	if !struck() {
		must(t, err)
	}
	what := fmt.Sprintf("step %d of %s, another is faster before step %d: %v", n, how.name, faster, err)
	got := count(t, p.store(t, 1)) - others
	switch {
	case err == nil && got != 1, got < 0, got > 1:
		t.Errorf("%s: it was done %d times", what, got)
	case err != nil && got != 0 && !errors.Is(err, kvstore.ErrUnknown):
		t.Errorf("%s: it was done in spite of the error", what)
	case errors.Is(err, kvstore.ErrUnknown) && !how.dies:
		t.Errorf("%s: that could have been found out", what)
	case called > 2:
		t.Errorf("%s: the function was called %d times", what, called)
	}
	// Those who are left go on.
	must(t, p.store(t, 0).Update(t.Context(), increment))
	if now := count(t, p.store(t, 1)) - others; now != got+1 {
		t.Errorf("%s: afterwards %d, want %d", what, now, got+1)
	}
	if left := leftovers(d); len(left) > 1 || len(left) > 0 && !how.dies && !struck() {
		t.Errorf("%s: %q are left", what, left)
	}
	return struck()
}

func leftovers(d *disk) []string {
	return slices.DeleteFunc(d.names(), func(name string) bool { return !strings.HasSuffix(name, ".tmp") })
}

// TestASleeperNeverPublishesUnderANumberThatWasUsed has a writer sleep before each of its steps
// while another writes on, on a datastore whose clock makes everything look old that is not the
// newest: what is deleted by age is deleted under the sleeper's hands.
func TestASleeperNeverPublishesUnderANumberThatWasUsed(t *testing.T) {
	deleted := false
	for _, lost := range []bool{false, true} { // whether the answer of the sleeper's move is lost
		for sleep := 1; sleep <= 6; sleep++ {
			for _, others := range []int{0, 1, 2, 7, 8, 9, 10, 11, 20} {
				deleted = sleeps(t, lost, sleep, others) || deleted
			}
		}
	}
	if !deleted {
		t.Error("no generation was ever deleted: this test shows nothing")
	}
}

func sleeps(t *testing.T, lost bool, sleep, others int) (deleted bool) {
	t.Helper()
	p, d := inMemory()
	d.tick = 2 * kvstore.DefaultGrace
	p.put(t, "apiKV.dat", `{}`)
	sleeper, taken, want := &machine{disk: d}, 0, 1
	sleeper.around = func(what string, do func() error) error {
		if taken++; taken == sleep {
			for range others {
				must(t, p.store(t, 1).Update(t.Context(), increment))
			}
			want += others
		}
		err := do()
		if lost && what == "move" && err == nil {
			lost = false
			return errdefs.New(errdefs.Unavailable, "a lost answer")
		}
		return err
	}
	err := p.by(sleeper).store(t, 0).Update(t.Context(), increment)
	// Before step 6 its work can be followed by so many, and deleted, that it cannot ask what became of it.
	if forgotten := sleep == 6 && others >= 9; err != nil && (!forgotten || !errors.Is(err, kvstore.ErrUnknown)) {
		t.Errorf("sleep before step %d, %d others: %v", sleep, others, err)
	}
	if got := count(t, p.store(t, 0)); got != want {
		t.Errorf("sleep before step %d, %d others: got %d, want %d", sleep, others, got, want)
	}
	return !slices.Contains(d.names(), p.directory+"/apiKV.dat")
}

func TestOldGenerationsAndUploadsAreDeletedAndTheNewestStay(t *testing.T) {
	p, d := inMemory()
	d.tick = 0
	digits := strings.Repeat("0123456789abcdef", 2)
	s := p.store(t, 0)
	for range 20 {
		must(t, s.Update(t.Context(), increment))
	}
	p.put(t, "apiKV.dat.3-"+digits+".tmp", "{")
	d.now = d.now.Add(kvstore.DefaultGrace - time.Second)
	p.put(t, "apiKV.dat.5-"+digits+".tmp", "{")
	must(t, s.Update(t.Context(), increment))
	if n := len(d.names()); n != 23 {
		t.Errorf("something young was deleted: there are %q", d.names())
	}

	// The dead upload goes; one that is young keeps what it wants to be, and all after it.
	d.now = d.now.Add(time.Second)
	must(t, s.Update(t.Context(), increment))
	want := []string{"apiKV.dat.5-" + digits + ".tmp"}
	for i := 5; i <= 21; i++ {
		want = append(want, fmt.Sprintf("apiKV.dat.%d", i))
	}
	p.has(t, want...)

	d.now = d.now.Add(2 * kvstore.DefaultGrace)
	must(t, s.Update(t.Context(), increment))
	must(t, s.Update(t.Context(), increment))
	want = nil
	for i := 15; i <= 23; i++ {
		want = append(want, fmt.Sprintf("apiKV.dat.%d", i))
	}
	p.has(t, want...)
	if n := count(t, s); n != 24 {
		t.Errorf("got %d", n)
	}
}

func TestOtherStoresAndVersionsAreNotTouched(t *testing.T) {
	p, d := inMemory()
	d.tick = 2 * kvstore.DefaultGrace
	digits := strings.Repeat("0123456789abcdef", 2)
	others := []string{"apiKV.other.dat.1-" + digits + ".tmp", "apiKV.dat-abcdefghij.tmp", "apiKV.dat.bak", "apiKV.old.dat", "apiKV.v2.dat-" + digits + ".tmp", "apiKVdat.1"}
	for _, name := range others {
		p.put(t, name, "{}")
	}
	s := p.store(t, 0)
	for range 12 {
		must(t, s.Update(t.Context(), increment))
	}
	for _, name := range others {
		if !slices.Contains(d.names(), p.directory+"/"+name) {
			t.Errorf("%s is gone", name)
		}
	}
}

func TestAnUpdateGivesUpWhenOthersAreFasterEachTime(t *testing.T) {
	p, d := inMemory()
	slow, others := &machine{disk: d}, 0
	slow.around = func(what string, do func() error) error {
		if what == "write" {
			must(t, p.store(t, 1).Update(t.Context(), increment))
			others++
		}
		return do()
	}
	err := p.by(slow).store(t, 0).Update(t.Context(), increment)
	wantKind(t, err, errdefs.Aborted, "others were faster 30 times")
	if n := count(t, p.store(t, 0)); n != others || others != 30 {
		t.Errorf("got %d of %d", n, others)
	}
	if left := leftovers(d); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	for n := 1; n <= 5; n++ {
		p, d := inMemory()
		ctx, cancel := context.WithCancel(t.Context())
		ending, taken := &machine{disk: d}, 0
		ending.around = func(_ string, do func() error) error {
			if taken++; taken == n {
				cancel()
			}
			return do()
		}
		err := p.by(ending).store(t, 0).Update(ctx, increment)
		wantKind(t, err, errdefs.Canceled)
		p.has(t)
	}
}

func TestUpdatesOfOneStoreWaitForOneAnother(t *testing.T) {
	p, _ := inMemory()
	s := p.store(t, 0)
	err := s.Update(t.Context(), func(map[string][]byte) error {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		wantKind(t, s.Update(ended, increment), errdefs.Canceled, "wait for another update")
		return nil
	})
	must(t, err)
}

func TestAFileThatIsGoneWhenItIsReadIsLookedForAgain(t *testing.T) {
	p, d := inMemory()
	p.put(t, "apiKV.dat", `{"n":"MQ=="}`)
	m, once := &machine{disk: d}, sync.Once{}
	m.around = func(what string, do func() error) error {
		if what == "read" {
			once.Do(func() { must(t, p.machines[1].Move(t.Context(), p.directory+"/apiKV.dat", p.directory+"/apiKV.dat.1")) })
		}
		return do()
	}
	if n := count(t, p.by(m).store(t, 0)); n != 1 {
		t.Errorf("got %d", n)
	}
	m.around = func(what string, do func() error) error {
		if what == "read" {
			return errdefs.New(errdefs.NotFound, "never there")
		}
		return do()
	}
	_, err := p.by(m).store(t, 0).Read(t.Context())
	wantKind(t, err, errdefs.NotFound, "never there")
}

func TestAGenerationIsVICsFormWithALineOfBlanksBehindIt(t *testing.T) {
	p, d := inMemory()
	o := func(o *kvstore.Options) {
		o.Random = strings.NewReader(strings.Repeat("\x0f", 8) + strings.Repeat("\xa0", 24))
	}
	must(t, p.store(t, 0, o).Put(t.Context(), "a", []byte("b")))
	want := `{"a":"Yg=="}` + "\n" + strings.Repeat("\t\t\t\t    ", 8)
	if diff := cmp.Diff(want, d.content(p.directory+"/apiKV.dat")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
