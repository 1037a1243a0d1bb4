// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// look is what stores answered about one name, by their labels. A store that is in
// neither map does not have it.
type look struct {
	found  map[string]*Volume
	failed map[string]error
}

// sorted returns what was found, by the labels of the stores.
func (l look) sorted() []*Volume {
	var found []*Volume
	for _, label := range slices.Sorted(maps.Keys(l.found)) {
		found = append(found, l.found[label])
	}
	return found
}

// look asks all stores but those of except for a volume.
func (s *Set) look(ctx context.Context, name string, except ...string) look {
	asked := maps.Clone(s.stores)
	for _, label := range except {
		delete(asked, label)
	}
	found, failed := ask(ctx, asked, func(ctx context.Context, store Store) (*Volume, error) {
		v, err := store.Get(ctx, name)
		switch {
		case errdefs.Is(err, errdefs.NotFound):
			return nil, nil //nolint:nilnil // most stores do not have it
		case err != nil:
			return nil, err
		}
		return v, nil
	})
	maps.DeleteFunc(found, func(_ string, v *Volume) bool { return v == nil })
	return look{found: found, failed: failed}
}

// ask asks stores at the same time. It returns their answers by label, or their errors.
func ask[T any](ctx context.Context, stores map[string]Store, question func(ctx context.Context, store Store) (T, error)) (map[string]T, map[string]error) {
	return askEach(ctx, stores, func(ctx context.Context, _ string, store Store) (T, error) { return question(ctx, store) })
}

// askEach is ask with the label in the question. An answer that comes with an error
// counts too: a part of a list is better than none.
func askEach[T any](ctx context.Context, stores map[string]Store, question func(ctx context.Context, label string, store Store) (T, error)) (map[string]T, map[string]error) {
	answers, failed := map[string]T{}, map[string]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for label, store := range stores {
		all.Go(func() {
			answer, err := question(ctx, label, store)
			mu.Lock()
			defer mu.Unlock()
			answers[label] = answer
			if err != nil {
				failed[label] = err
			}
		})
	}
	all.Wait()
	return answers, failed
}

// joined makes one error of those of several stores, nil of none.
func (s *Set) joined(failed map[string]error, format string, args ...any) error {
	var first, all error
	for _, label := range slices.Sorted(maps.Keys(failed)) {
		err := failed[label]
		if first == nil || gravity(err) > gravity(first) {
			first = err
		}
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return errdefs.Wrap(errdefs.KindOf(first), all, format, args...)
}

// gravity is the less waiting helps against an error, the larger.
func gravity(err error) int {
	switch errdefs.KindOf(err) {
	case errdefs.Canceled, errdefs.DeadlineExceeded:
		return 0
	case errdefs.Unavailable, errdefs.Aborted:
		return 1
	case errdefs.ResourceExhausted:
		return 2
	default:
		return 3
	}
}

// place says where a volume is, for people.
func place(v *Volume) string { return fmt.Sprintf("volume store %s (%s)", v.Store, v.Location) }

func places(all []*Volume) string {
	texts := make([]string, 0, len(all))
	for _, v := range all {
		texts = append(texts, place(v))
	}
	return strings.Join(texts, " and ")
}
