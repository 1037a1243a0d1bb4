// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package locations

import (
	"context"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// broken stands for a store that cannot be made: whoever asks it learns why, and
// the other stores of the VCH are of use without it.
type broken struct {
	name string
	why  error
}

var _ volume.Store = (*broken)(nil)

func (b *broken) String() string        { return b.name }
func (b *broken) Driver() volume.Driver { return "" }

func (b *broken) Create(context.Context, volume.Request) (*volume.Volume, error) { return nil, b.why }

func (b *broken) Get(context.Context, string) (*volume.Volume, error) { return nil, b.why }

func (b *broken) List(context.Context) ([]volume.Volume, error)   { return nil, b.why }
func (b *broken) Remove(context.Context, string, ...string) error { return b.why }

func (b *broken) Users(context.Context, ...string) (map[string][]volume.User, error) {
	return nil, b.why
}

func (b *broken) Join(*volume.Volume, volume.Mount) (*volume.Joint, error) { return nil, b.why }
