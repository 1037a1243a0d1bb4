// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/test/integration/common/helpers"
	"github.com/onsi/ginkgo/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// limit is how long a look into the vCenter may take.
const limit = time.Minute

// tracker looks for what machines leave behind in the vCenter: VMs, disks, and
// directories that were not there when the suite began.
type tracker struct {
	vcenter stack.VCenter
	before  *stack.Inventory
}

var _ helpers.ResourcesTrackerInterface = (*tracker)(nil)

// InitializeResourcesTracker remembers what is there before the first machine. It
// reaches the vCenter as the provider does: by the class and its Secret.
func (t *tracker) InitializeResourcesTracker(class *machinev1.MachineClass, secret map[string][]byte, _ string) error {
	var spec v1alpha1.ProviderSpec
	if err := json.Unmarshal(class.ProviderSpec.Raw, &spec); err != nil {
		return fmt.Errorf("decode the provider spec of %s: %w", class.Name, err)
	}
	t.vcenter = stack.VCenter{Datacenter: spec.VCH.Datacenter, Secret: map[string]string{}}
	for key, value := range secret {
		t.vcenter.Secret[key] = string(value)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	t.before, err = t.vcenter.Inventory(ctx)
	return err
}

// IsOrphanedResourcesAvailable says whether anything is there that was not there
// at first, and prints it. Anything that is missing or changed counts too: it was
// not ours to touch. If the vCenter cannot be read, the answer is yes.
func (t *tracker) IsOrphanedResourcesAvailable() bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	now, err := t.vcenter.Inventory(ctx)
	if err == nil {
		err = t.before.Equal(now)
	}
	if err != nil {
		fmt.Fprintln(ginkgo.GinkgoWriter, "resources tracker:", err)
	}
	return err != nil
}
