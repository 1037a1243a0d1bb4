// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/gardener/machine-controller-manager/pkg/test/integration/common"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
)

func TestController(t *testing.T) {
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "MCM's integration framework on this provider")
}

var _ = func() bool {
	framework := common.NewIntegrationTestFramework(&tracker{}, 180, 1)
	ginkgo.BeforeSuite(framework.SetupBeforeSuite)
	ginkgo.AfterSuite(framework.Cleanup)
	ginkgo.Describe("controllers", func() {
		framework.BeforeEachCheck()
		framework.ControllerTests()
	})
	return true
}()

// Each spec takes seconds to half a minute: tell which one has ended how.
var _ = ginkgo.ReportAfterEach(func(report ginkgo.SpecReport) {
	// Ginkgo puts its dot behind it.
	fmt.Fprintf(os.Stdout, "\n%-7s %5.1f s  %s ", report.State, report.RunTime.Seconds(), report.FullText())
})
