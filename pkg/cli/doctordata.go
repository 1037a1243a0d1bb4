// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// checkData looks at the versions of what is stored, in the VCH and in all of its
// container VMs.
func (d *doctor) checkData(ctx context.Context, client *vcenter.Client, host *vch.Config) {
	d.checkVCHData(host)
	operator := containervm.NewOperator(client, host, d.opts.migrations())
	members, err := operator.Members(ctx)
	if err != nil {
		d.fail(checkData, err)
		return
	}
	refs := make([]types.ManagedObjectReference, 0, len(members))
	for _, m := range members {
		refs = append(refs, m.Ref)
	}
	vms, err := operator.ReadWhole(ctx, refs...)
	if err != nil {
		d.fail(checkData, err)
		return
	}
	states := map[string][]*subject{}
	s := &site{client: client, host: host, operator: operator}
	for _, ref := range refs {
		if vm, ok := vms[ref]; ok {
			sub := newContainer(s, vm, d.opts.migrations())
			states[sub.State] = append(states[sub.State], sub)
		}
	}
	d.reportData(states)
}

// reportData tells of the states of container VMs.
func (d *doctor) reportData(states map[string][]*subject) {
	if broken := states[dataError]; len(broken) > 0 {
		d.fail(checkData, errdefs.New(errdefs.FailedPrecondition, "%s data that cannot be migrated, and is read as far as it is known: %s; docs/migration.md says what to do",
			countText(len(broken), "container VM has", "container VMs have"), dataTexts(broken)))
	}
	if newer := states[dataNewer]; len(newer) > 0 {
		d.note(checkData, "%s data of a newer program, which this one reads and never changes: %s; use a newer version of it", countText(len(newer), "container VM has", "container VMs have"), dataTexts(newer))
	}
	if old := states[dataOld]; len(old) > 0 {
		without := ""
		if slices.ContainsFunc(old, func(s *subject) bool { return !s.Rename }) {
			without = fmt.Sprintf(", but those below data version %d cannot be renamed", migration.Rename().Since)
		}
		d.note(checkData, "%s data of older versions: %s; they work as they are%s; vchctl migrate status shows all", countText(len(old), "container VM has", "container VMs have"), dataTexts(old), without)
	}
	if today := len(states[dataUpToDate]); today > 0 {
		d.ok(checkData, "%s data of today", countText(today, "container VM has", "container VMs have"))
	}
	if len(states) == 0 {
		d.ok(checkData, "the VCH has no container VM")
	}
}

// dataTexts names the first VMs, with their versions or what is wrong.
func dataTexts(subjects []*subject) string {
	texts := make([]string, 0, len(subjects))
	for _, s := range subjects {
		what := versionsText(s.outcomes)
		if s.failed != nil {
			what = s.Error
		}
		texts = append(texts, s.VM+" ("+what+")")
	}
	return someText(texts)
}

// checkVCHData looks at the data of the appliance, which vic-machine alone writes.
func (d *doctor) checkVCHData(host *vch.Config) {
	const check = "data of the VCH"
	switch {
	case host.MigrationError != nil:
		d.fail(check, errdefs.Wrap(errdefs.FailedPrecondition, host.MigrationError, "it cannot be migrated, and is read as far as it is known: settings of the VCH may be missing; vic-machine upgrade writes it anew"))
	case host.Data.Newer:
		d.note(check, "version %d is newer than this program, which reads what it knows of it; use a newer version of it", host.Data.From)
	case host.Data.Migrated():
		d.note(check, "version %d is read as version %d; vic-machine upgrade would store it so", host.Data.From, host.Data.To)
	default:
		d.ok(check, "version %d", host.Data.From)
	}
}
