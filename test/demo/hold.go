// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// hold prints how to look around and then keeps everything running until this
// process is told to end.
func (d *demo) hold(ctx context.Context) {
	vcenter := d.stack.VCenter()
	d.say("All files are in one directory:")
	d.say("  cd %s", d.dir)
	d.say("Kubernetes:")
	d.say("  export KUBECONFIG=%s", d.cluster.AdminKubeconfig())
	d.say("  alias kubectl='%s --namespace=%s'", d.programs.Tool(stack.Kubectl), namespace)
	d.say("  kubectl get machinedeployments,machinesets,machines,nodes")
	d.say("  kubectl scale machinedeployment/%s --replicas=1", d.samples["MachineDeployment"].GetName())
	d.say("The VMs and what they are told:")
	d.say("  alias vchctl='%s'", d.programs.Path(stack.VCHCtl))
	d.say("  vchctl machines ls --secret-file=%s --provider-spec=%s", sampleFile("Secret"), sampleFile("MachineClass"))
	d.say("The vCenter, for govc and the like:")
	d.say("  export GOVC_URL=%s GOVC_USERNAME=%s GOVC_PASSWORD=%s GOVC_INSECURE=1", vcenter.URL, vcenter.Username, vcenter.Password)
	if d.sidecar {
		d.say("The driver, for grpcurl:  %s", d.stack.Endpoint())
	}
	d.say("The logs:  ls %s", filepath.Join("*", "*.log"))
	d.say("To stop it all and remove every trace:  kill %d", os.Getpid())
	if err := os.WriteFile(filepath.Join(d.dir, keptFile), nil, 0o600); err != nil {
		d.say("nobody is told that the demo is ready: %v", err)
		return
	}
	<-ctx.Done()
}
