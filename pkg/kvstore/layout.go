// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
)

const (
	suffix        = ".dat"
	pendingSuffix = ".tmp"
	// keep is how many generations before the newest are never deleted.
	keep = 8
	// tidiedAtOnce bounds what one update deletes.
	tidiedAtOnce = 16
)

var (
	// namePattern is VIC's, which also allows the empty name
	// (lib/portlayer/store/store.go:52-56).
	namePattern = regexp.MustCompile(`^[a-zA-Z0-9_.]+$`)
	// versionPattern ends the names that are those of a version of another store.
	versionPattern = regexp.MustCompile(`\.v[1-9][0-9]{0,8}$`)
	// filePattern splits the name of a file into store, version, generation, and the digits of one
	// that is not published. Numbers of more digits are somebody else's.
	filePattern = regexp.MustCompile(`^([a-zA-Z0-9_.]+?)(?:\.v([1-9][0-9]{0,8}))?\.dat(?:\.([1-9][0-9]{0,17}))?(?:-([0-9a-f]{32})\.tmp)?$`)
)

// place is one generation of one version of a store.
type place struct{ version, generation int }

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.version, o.version), cmp.Compare(p.generation, o.generation))
}

// file is the name of a generation's file.
func (p place) file(store string) string {
	if p.version > 0 {
		store += fmt.Sprintf(".v%d", p.version)
	}
	if store += suffix; p.generation > 0 {
		store += "." + strconv.Itoa(p.generation)
	}
	return store
}

// pending is the name of a file that wants to become a generation.
func (p place) pending(store, digits string) string {
	return p.file(store) + "-" + digits + pendingSuffix
}

// found is a file that belongs to a store.
type found struct {
	place
	store string
	// name is that of the file.
	name     string
	pending  bool
	modified time.Time
}

// parse reads the name of a file; false if it is of no store.
func parse(e datastore.Entry) (found, bool) {
	m := filePattern.FindStringSubmatch(e.Name)
	if m == nil || e.Dir {
		return found{}, false
	}
	f := found{store: m[1], name: e.Name, pending: m[4] != "", modified: e.Modified}
	f.version, _ = strconv.Atoi(m[2])    // digits, or nothing
	f.generation, _ = strconv.Atoi(m[3]) // likewise
	return f, true
}

// contents is what a directory has of one store.
type contents struct {
	// directory says that there is one.
	directory bool
	// published is sorted, the newest one last.
	published, pending []found
}

// contentsOf picks what is of a store. What belongs to a VCH has neither generations nor
// uploads of this package's: files that look so are copies that somebody made.
func contentsOf(entries []datastore.Entry, store string, ofVCH bool) contents {
	c := contents{directory: true}
	for _, e := range entries {
		f, ok := parse(e)
		switch {
		case !ok || f.store != store || ofVCH && (f.pending || f.generation > 0):
		case f.pending:
			c.pending = append(c.pending, f)
		default:
			c.published = append(c.published, f)
		}
	}
	slices.SortFunc(c.published, func(a, b found) int { return a.compare(b.place) })
	return c
}

// newest returns the generation that counts; false if there is no store.
func (c contents) newest() (place, bool) {
	if len(c.published) == 0 {
		return place{}, false
	}
	return c.published[len(c.published)-1].place, true
}

// upload returns the upload of a name.
func (c contents) upload(name string) (found, bool) {
	i := slices.IndexFunc(c.pending, func(f found) bool { return f.name == name })
	if i < 0 {
		return found{}, false
	}
	return c.pending[i], true
}

// tidy plans what may be deleted when an upload, which the contents have, is published: uploads
// of dead writers, and after all of them were deleted, generations. All are of the same version.
func (c contents) tidy(own found, grace time.Duration) (uploads, generations []string) {
	old := func(f found) bool {
		return !own.modified.IsZero() && !f.modified.IsZero() && own.modified.Sub(f.modified) >= grace
	}
	wanted := own.generation - keep
	for _, f := range c.pending {
		switch {
		case f.name == own.name || f.version != own.version:
		case f.generation <= own.generation && old(f) && len(uploads) < tidiedAtOnce:
			uploads = append(uploads, f.name)
		default:
			wanted = min(wanted, f.generation) // somebody may yet want to be this one
		}
	}
	for _, f := range c.published {
		if f.version == own.version && f.generation < wanted && old(f) && len(generations) < tidiedAtOnce {
			generations = append(generations, f.name)
		}
	}
	return uploads, generations
}
