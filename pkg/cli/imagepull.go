// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// pullTimeout is long enough for a large image over a slow line.
const pullTimeout = 2 * time.Hour

// cleanTimeout bounds how long a pull that was cut off takes away what it made.
const cleanTimeout = time.Minute

// pulledImage is the answer of image pull as JSON.
type pulledImage struct {
	// Reference is what was pulled, in its full form.
	Reference string `json:"reference"`
	image.Disk
	Store string   `json:"store"`
	VCHs  []string `json:"vchs"`
}

// pullFlags say what image pull does.
type pullFlags struct {
	imageFlags
	registries registryFlags
	size       string
	tempDir    string
	// reference is what is pulled, in its full form.
	reference string
}

func imagePullCommand(opts Options) *cobra.Command {
	flags := pullFlags{imageFlags: imageFlags{hostFlags{connection: connectionFlags{timeout: pullTimeout}}}}
	cmd := &cobra.Command{
		Use:   "pull [REFERENCE]",
		Short: "Make the image disk of an image, as the first machine would",
		Long: `Make the image disk of an image, as the first machine would: download it, write it
into a file system, and upload that to the image store of the VCH. What the
registry says the reference means now counts; if that disk is there already, the
reference is made to lead to it and nothing is uploaded.

With --provider-spec, its image, size, registries and mirrors are the defaults, and
with --secret-file the pull secret of a ProviderSpec's Secret (.dockerconfigjson).
The registries that the VCH allows, trusts or calls insecure are honoured.

The temporary files need up to three times the size of the uncompressed image. They
are removed at the end, after ^C too.`,
		Example: `  vchctl image pull --vch vch-1 docker.io/rancher/k3s:v1.34.1-k3s1
  vchctl image pull --secret-file secret.yaml --provider-spec machine-class.yaml
  vchctl image pull --vch vch-1 --size 16Gi --auth-file ~/.docker/config.json registry.example.com/node:v2
  vchctl image pull --vch vch-1 --mirror docker.io=mirror.example.com/hub rancher/k3s:v1.34.1-k3s1`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := flags.request(opts, args)
			if err != nil {
				return err
			}
			return flags.store(cmd.Context(), opts, func(ctx context.Context, host *vch.Config, store image.Store) error {
				request.Store = store
				request.Registry = request.Registry.Join(vsphere.Registries(host))
				disk, err := flags.pull(ctx, opts, request)
				if err != nil {
					return err
				}
				return writePulled(opts, flags.output, pulledImage{Reference: flags.reference, Disk: *disk, Store: store.String(), VCHs: []string{host.Name}})
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	cmd.Flags().StringVar(&flags.size, "size", "", "size of the disk, such as 16Gi (default: that of the ProviderSpec, or "+sizeText(v1alpha1.DefaultRootDiskBytes)+")")
	cmd.Flags().StringVar(&flags.tempDir, "temp-dir", "", "directory for temporary files (default: TMPDIR, or "+defaultTempDir+")")
	flags.registries.add(cmd)
	return cmd
}

// defaultTempDir is on a disk on most systems, where /tmp may be memory.
const defaultTempDir = "/var/tmp"

// request reads all that was said, and finds what is wrong with it before
// anybody is spoken to.
func (f *pullFlags) request(opts Options, args []string) (pull.Request, error) {
	request := pull.Request{Policy: v1alpha1.PullAlways}
	if err := f.checkOutput(); err != nil {
		return request, err
	}
	spec := &v1alpha1.ProviderSpec{}
	if f.which.specFile != "" {
		var err error
		if spec, err = f.which.spec(); err != nil {
			return request, err
		}
	}
	name := strings.Join(args, "")
	if name = cmp.Or(name, spec.Image); name == "" {
		return request, errdefs.New(errdefs.InvalidArgument, "which image? Give a reference, or a --provider-spec with an image")
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		return request, err
	}
	request.Reference, f.reference = name, ref.String()
	size, err := parseSize(f.size)
	if err != nil {
		return request, err
	}
	request.Size = cmp.Or(size, spec.RootDiskBytes(), v1alpha1.DefaultRootDiskBytes)
	f.tempDir = cmp.Or(f.tempDir, opts.Env("TMPDIR"), defaultTempDir)
	if info, err := os.Stat(f.tempDir); err != nil || !info.IsDir() {
		return request, errdefs.New(errdefs.InvalidArgument, "--temp-dir %s is not a directory", f.tempDir)
	}
	// Without a Secret there is none to find a pull secret in; the connection says so.
	secret, err := f.connection.secret(opts.Env)
	if err != nil {
		return request, err
	}
	request.Registry, err = f.registries.options(spec, secret)
	return request, err
}

// pull makes the disk and shows how far that is.
func (f *pullFlags) pull(ctx context.Context, opts Options, request pull.Request) (disk *image.Disk, err error) {
	puller := pull.New(pull.Options{Dir: f.tempDir, Clock: opts.clock(), Limit: f.connection.timeout})
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		if closeErr := puller.Close(closing); closeErr != nil && err == nil {
			// The disk is there; what is left is a temporary file at most.
			klog.FromContext(ctx).Error(closeErr, "end the pull")
		}
	}()
	shown := newProgress(ctx, opts, f.output == outputJSON)
	defer func() { shown.end(err == nil) }()
	return puller.Pull(ctx, request, shown.report)
}

func writePulled(opts Options, output string, pulled pulledImage) error {
	if output == outputJSON {
		return writeJSON(opts.Stdout, pulled)
	}
	return writeTable(opts.Stdout, [][]string{
		{"image:", pulled.Reference},
		{"digest:", pulled.Digest},
		{"size:", sizeText(pulled.Size) + ", " + bytesText(pulled.UsedBytes) + " used"},
		{"path:", pulled.Path},
	})
}
