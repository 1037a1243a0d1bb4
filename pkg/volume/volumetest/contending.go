// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"sync/atomic"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// contending are the tests of many that work at the same time.
func contending() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"of many that make one volume one has success, and nothing is left": manyCreators,
		"many different volumes are made at once":                           manyVolumes,
		"of many that remove one volume one has success":                    manyRemovers,
		"those that make and remove one volume leave one or none":           createAndRemove,
		"reading while volumes come and go shows whole ones":                readsMeanwhile,
		"a volume that is made at the same moment is not overwritten":       lateCreator,
	}
}

func manyCreators(f *fixture) {
	const processes, each = 5, 10
	stores := make([]volume.Store, processes)
	for i := range stores {
		stores[i] = f.h.Store()
	}
	var made atomic.Int64
	together(processes*each, func(i int) {
		v, err := stores[i%processes].Create(f.Context(), request(name))
		switch {
		case err != nil:
			f.wantError("create", err, errdefs.AlreadyExists)
		case v == nil || v.Name != name:
			f.Errorf("create has made %v", v)
		default:
			made.Add(1)
		}
	})
	if n := made.Load(); n != 1 {
		f.Errorf("%d creators had success, want one", n)
	}
	f.wantPublished(request(name))
	f.remove(name)
	f.wantNoFiles("after the volume was removed")
}

func manyVolumes(f *fixture) {
	const volumes = 12
	one := f.h.Store()
	stores := []volume.Store{one, one, f.h.Store()}
	together(volumes, func(i int) {
		if _, err := stores[i%len(stores)].Create(f.Context(), request(numbered(i))); err != nil {
			f.Error(err)
		}
	})
	for i := range volumes {
		f.wantPublished(request(numbered(i)))
	}
	together(volumes, func(i int) {
		if err := stores[i%len(stores)].Remove(f.Context(), numbered(i)); err != nil {
			f.Error(err)
		}
	})
	f.wantNoFiles("after all volumes were removed")
}

func manyRemovers(f *fixture) {
	f.createWritten("other")
	for range 3 {
		f.createWritten(name)
		stores := []volume.Store{f.h.Store(), f.h.Store()}
		var removed atomic.Int64
		together(8, func(i int) {
			if err := stores[i%2].Remove(f.Context(), name); err == nil {
				removed.Add(1)
			} else {
				f.wantError("remove", err, errdefs.NotFound, errdefs.Aborted)
			}
		})
		if n := removed.Load(); n != 1 {
			f.Errorf("%d removed the volume, want one", n)
		}
		f.wantAbsent(name)
	}
	f.wantKept("other")
	f.remove("other")
	f.wantNoFiles("after all volumes were removed")
}

func createAndRemove(f *fixture) {
	var made, removed atomic.Int64
	stores := []volume.Store{f.h.Store(), f.h.Store(), f.h.Store(), f.h.Store()}
	together(len(stores), func(i int) {
		for range 8 {
			if i%2 == 0 {
				_, err := stores[i].Create(f.Context(), request(name))
				if err == nil {
					made.Add(1)
				} else {
					f.wantError("create", err, errdefs.AlreadyExists, errdefs.Aborted)
				}
				continue
			}
			if err := stores[i].Remove(f.Context(), name); err == nil {
				removed.Add(1)
			} else {
				f.wantError("remove", err, errdefs.NotFound, errdefs.Aborted)
			}
		}
	})
	there := int64(0)
	if f.wantWholeOrAbsent(request(name)) {
		there = 1
	}
	if made.Load()-removed.Load() != there {
		f.Errorf("%d were made and %d were removed, and now there are %d", made.Load(), removed.Load(), there)
	}
	f.clean()
	if f.wantWholeOrAbsent(request(name)) != (there == 1) {
		f.Error("Clean changed what there is")
	}
	if there == 1 {
		f.remove(name)
	}
	f.wantNoFiles("in the end")
}

func readsMeanwhile(f *fixture) {
	f.createWritten("there")
	writer, reader := f.h.Store(), f.h.Store()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 6 {
			if _, err := writer.Create(f.Context(), request(numbered(i))); err != nil {
				f.Error(err)
			}
			if err := writer.Remove(f.Context(), numbered(i)); err != nil {
				f.Error(err)
			}
		}
	}()
	for {
		list, err := reader.List(f.Context())
		if err != nil {
			f.Errorf("list: %v", err)
		}
		there := false
		for _, v := range list {
			there = there || v.Name == "there"
			if v.Damage != "" || v.Metadata.Image != request(v.Name).Metadata.Image {
				f.Errorf("the list has half a volume: %+v", v)
			}
		}
		if !there {
			f.Errorf("the list has lost a volume that is there: %v", list)
		}
		if v, err := reader.Get(f.Context(), numbered(3)); err != nil {
			f.wantError("get", err, errdefs.NotFound)
		} else if v.Damage != "" {
			f.Errorf("get has half a volume: %+v", v)
		}
		select {
		case <-done:
			f.wantKept("there")
			return
		default:
		}
	}
}

// lateCreator makes a volume before each step of another creation.
func lateCreator(f *fixture) {
	for step := 1; step <= maxSteps; step++ {
		early := false
		s, struck := f.h.Faulty(Fault{Step: step, Before: func() {
			f.looks.Lock()
			defer f.looks.Unlock()
			if _, ok := f.listed(name); !ok {
				f.createWritten(name)
				early = true
			}
		}})
		_, err := s.Create(f.Context(), request(name))
		if early {
			f.wantError("create after another one", err, errdefs.AlreadyExists)
			f.wantKept(name)
		} else if err != nil {
			f.Errorf("create: %v", err)
		}
		f.remove(name)
		f.wantNoFiles("in the end")
		if f.Failed() {
			f.Fatalf("that was with another creation before step %d", step)
		}
		if !struck() {
			return
		}
	}
}
