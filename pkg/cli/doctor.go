// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

func doctorCommand(opts Options) *cobra.Command {
	var connection connectionFlags
	var which vchFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether machines could be made",
		Long: `Check whether machines could be made: the Secret, the way to vCenter, its
certificate, the session, the VCH and its state, privileges, datastores, networks,
the bootstrap ISO, volume stores, data of older versions, and with --provider-spec the
ProviderSpec, its root disk or image and its volumes.

Each line is OK, FAIL with what to do, NOTE when something is good to know, or SKIP when
something else must be right first. The exit code is 1 if anything fails.`,
		Example: `  vchctl doctor --secret-file secret.yaml --provider-spec machineclass.yaml
  vchctl doctor --datacenter dc-1 --vch vch-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{connection: connection, which: which, opts: opts}
			if err := connection.within(cmd.Context(), opts, d.examine); err != nil {
				return err
			}
			if err := d.write(); err != nil {
				return err
			}
			if d.failed > 0 {
				return errdefs.New(errdefs.FailedPrecondition, "%d of %d checks failed", d.failed, d.failed+d.passed)
			}
			return nil
		},
	}
	connection.add(cmd)
	which.add(cmd)
	return cmd
}

// The states of a check.
const (
	stateOK   = "OK"
	stateFail = "FAIL"
	stateSkip = "SKIP"
	stateNote = "NOTE"
)

// doctor examines one VCH and collects a line for each check.
type doctor struct {
	connection connectionFlags
	which      vchFlags
	opts       Options

	spec   *v1alpha1.ProviderSpec
	secret map[string][]byte
	// image is the ProviderSpec's image, once it is found.
	image *image.Disk
	// volumes are the kinds of the stores of the ProviderSpec's volumes, once they are found.
	volumes []volume.Driver

	rows           [][]string
	passed, failed int
}

func (d *doctor) ok(check, format string, args ...any) {
	d.passed++
	d.rows = append(d.rows, []string{stateOK, check, fmt.Sprintf(format, args...)})
}

func (d *doctor) fail(check string, err error) {
	d.failed++
	d.rows = append(d.rows, []string{stateFail, check, err.Error()})
}

func (d *doctor) skip(reason string, checks ...string) {
	for _, check := range checks {
		d.rows = append(d.rows, []string{stateSkip, check, reason})
	}
}

// note tells what is no fault, and good to know.
func (d *doctor) note(check, format string, args ...any) {
	d.rows = append(d.rows, []string{stateNote, check, fmt.Sprintf(format, args...)})
}

func (d *doctor) write() error { return writeTable(d.opts.Stdout, d.rows) }

// examine runs the checks in the order in which one needs the other. It returns
// an error only for what is no finding.
func (d *doctor) examine(ctx context.Context, pool *vcenter.Pool) error {
	d.checkSpec()
	config, ok := d.checkSecret()
	if !ok {
		d.skip("the Secret must be right first", checkVCenter, checkCertificate, checkSession, checkVCH)
		return nil
	}
	client, ok := d.checkConnection(ctx, pool, config)
	if !ok {
		d.skip("there must be a session first", checkVCH)
		return nil
	}
	if d.which.specFile != "" && d.spec == nil {
		d.skip("the ProviderSpec must be right first", checkVCH)
		return nil
	}
	host, ok := d.checkVCH(ctx, client)
	if !ok {
		d.skip("the VCH must be found first", checkState, checkData, checkPrivileges, checkISO, checkVolumeStores)
		return nil
	}
	d.checkState(ctx, client, host)
	d.checkData(ctx, client, host)
	d.checkPrivileges(ctx, client, host)
	d.checkDatastores(host)
	d.checkNetworks(host)
	d.checkISO(ctx, files{client: client, host: host})
	d.checkRootDisk(ctx, files{client: client, host: host})
	d.checkVolumes(ctx, host, volumesOf(d.opts, client, host))
	d.checkMachine(host)
	return nil
}

// The names of checks that others are skipped for.
const (
	checkSpec        = "provider spec"
	checkSecret      = "secret"
	checkVCenter     = "vCenter"
	checkCertificate = "certificate"
	checkSession     = "session"
	checkVCH         = "VCH"
	checkState       = "VCH state"
	checkData        = "stored data"
	checkPrivileges  = "privileges"
	checkISO         = "bootstrap ISO"
	checkRootDisk    = "root disk"
	checkMachine     = "machine"
)

func (d *doctor) checkSpec() {
	if d.which.specFile == "" {
		d.skip("no --provider-spec is given", checkSpec)
		return
	}
	spec, err := d.which.spec()
	if err != nil {
		d.fail(checkSpec, err)
		return
	}
	d.spec = spec
	d.ok(checkSpec, "%s is valid", d.which.specFile)
}

func (d *doctor) checkSecret() (vcenter.Config, bool) {
	secret, err := d.connection.secret(d.opts.Env)
	source := "govc's variables"
	if err == nil && d.connection.secretFile != "" {
		source = d.connection.secretFile
		err = v1alpha1.CheckSecret(secret, d.spec)
	}
	var config vcenter.Config
	if err == nil {
		config, err = vcenter.ConfigFromSecret(secret)
	}
	if err != nil {
		d.fail(checkSecret, err)
		return config, false
	}
	d.secret = secret
	d.ok(checkSecret, "%s: user %s", source, config.Username)
	return config, true
}

// checkConnection logs in. Which of the three checks a failure belongs to, its
// kind says; what comes before it in the handshake has then succeeded.
func (d *doctor) checkConnection(ctx context.Context, pool *vcenter.Pool, config vcenter.Config) (*vcenter.Client, bool) {
	client, err := pool.Client(ctx, config)
	switch {
	case err == nil:
	case errdefs.Is(err, errdefs.FailedPrecondition):
		d.ok(checkVCenter, "%s answers", config.Endpoint)
		d.fail(checkCertificate, err)
		d.skip("the certificate must be trusted first", checkSession)
		return nil, false
	case errdefs.Is(err, errdefs.Unauthenticated) || errdefs.Is(err, errdefs.PermissionDenied):
		d.ok(checkVCenter, "%s answers", config.Endpoint)
		d.ok(checkCertificate, "%s", trust(config))
		d.fail(checkSession, err)
		return nil, false
	default:
		d.fail(checkVCenter, err)
		d.skip("vCenter must answer first", checkCertificate, checkSession)
		return nil, false
	}
	about := client.Vim().ServiceContent.About
	d.ok(checkVCenter, "%s is %s, API %s", client.Vim().URL().Host, about.FullName, about.ApiVersion)
	d.ok(checkCertificate, "%s", trust(config))
	var manager mo.SessionManager
	if err := property.DefaultCollector(client.Vim()).RetrieveOne(ctx, *client.Vim().ServiceContent.SessionManager, []string{"currentSession"}, &manager); err != nil {
		d.fail(checkSession, vcenter.Convert(err, "read the session"))
		return nil, false
	}
	if manager.CurrentSession == nil {
		d.fail(checkSession, errdefs.New(errdefs.Unauthenticated, "vCenter ended the session at once; look at its limit of sessions"))
		return nil, false
	}
	d.ok(checkSession, "logged in as %s", manager.CurrentSession.UserName)
	return client, true
}

// trust says why the certificate was accepted.
func trust(config vcenter.Config) string {
	switch {
	case config.Thumbprint != "":
		return "has the thumbprint that is asked for"
	case config.Insecure:
		return "is not checked, as " + v1alpha1.SecretInsecure + " asks for; safer is " + v1alpha1.SecretCABundle + " or " + v1alpha1.SecretThumbprint
	case len(config.CABundle) > 0:
		return "is signed by the CA bundle that is given"
	default:
		return "is signed by a CA that this system trusts"
	}
}

func (d *doctor) checkVCH(ctx context.Context, client *vcenter.Client) (*vch.Config, bool) {
	host, err := d.findVCH(ctx, client)
	if err != nil {
		d.fail(checkVCH, err)
		return nil, false
	}
	release := "an unknown release"
	if host.Version != nil {
		release = host.Version.Version
	}
	d.ok(checkVCH, "%s (%s) of VIC %s, image store %s", host.Name, host.Appliance.Value, release, host.ImageStore)
	return host, true
}

func (d *doctor) findVCH(ctx context.Context, client *vcenter.Client) (*vch.Config, error) {
	if d.spec != nil {
		return vch.Find(ctx, client, d.spec.VCH)
	}
	selector, err := d.which.selector(d.connection.govc(d.opts.Env))
	if err != nil {
		return nil, err
	}
	return selector.one(ctx, client)
}
