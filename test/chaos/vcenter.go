// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func vcenterKinds() []Kind {
	return append(append(append(answerKinds(), faultKinds()...), guestKinds()...), accessKinds()...)
}

// answerKinds spoil answers of any call.
func answerKinds() []Kind {
	spoiled := func(name, does string, how spoil, least float64) Kind {
		return Kind{
			Name: name, Does: does, Undone: "answers are right again",
			strike: func(_ context.Context, w *World, strength float64) (string, undo, error) {
				probability := least + strength*(1-least)
				w.answers.set(how, probability)
				return fmt.Sprintf("%.0f %% of all calls", 100*probability), func(context.Context) error {
					w.logf("%s spoilt %d answers", name, w.answers.set("", 0))
					return nil
				}, nil
			},
		}
	}
	return []Kind{
		spoiled("soap-truncated", "calls are executed, the second half of their answers is missing", truncated, 0.1),
		spoiled("soap-garbage", "calls are executed, their answers are no XML", garbage, 0.1),
		spoiled("html-page", "calls are not executed, the answer is a page with status 200", html, 0.3),
		spoiled("http-503-storm", "calls are not executed, the answer is 503 with a page", unavailable, 0.5),
		spoiled("http-500-burst", "calls are not executed, the answer is 500 without a SOAP fault", broken, 0.3),
	}
}

// vmTasks are the methods that make, change and remove VMs.
func vmTasks() []string {
	return []string{"CreateVM_Task", "ReconfigVM_Task", "PowerOnVM_Task", "PowerOnMultiVM_Task", "PowerOffVM_Task", "Destroy_Task"}
}

// faulted is a kind with a vSphere fault, or another of vchsim's, for some methods.
func faulted(name, does, fault string, least float64, methods ...string) Kind {
	return Kind{
		Name: name, Does: does, Undone: "the fault is taken out",
		strike: func(_ context.Context, w *World, strength float64) (string, undo, error) {
			probability := least + strength*(1-least)
			end := func(context.Context) error { w.Sim.ClearFaults(); return nil }
			for _, method := range methods {
				if err := w.Sim.SetFault(vchsim.FaultRule{Method: method, Kind: fault, Probability: probability}); err != nil {
					return "", end, err
				}
			}
			return fmt.Sprintf("%s for %.0f %% of the calls", fault, 100*probability), end, nil
		},
	}
}

// faultKinds are faults of vSphere.
func faultKinds() []Kind {
	all := vmTasks()
	return []Kind{
		faulted("task-in-progress", "methods that change VMs answer TaskInProgress", "TaskInProgress", 0.2, all...),
		faulted("concurrent-access", "tasks that reconfigure VMs fail with ConcurrentAccess", "task:ConcurrentAccess", 0.3, "ReconfigVM_Task"),
		faulted("host-lost", "tasks that change VMs fail with HostCommunication", "task:HostCommunication", 0.3, all...),
		faulted("datastore-full", "tasks that make VMs and switch them on fail with NoDiskSpace", "task:NoDiskSpace", 0.5, "CreateVM_Task", "PowerOnVM_Task"),
		faulted("no-memory", "switching VMs on fails with InsufficientMemoryResourcesFault", "task:InsufficientMemoryResourcesFault", 0.5, "PowerOnVM_Task", "PowerOnMultiVM_Task"),
		faulted("invalid-state", "tasks that change VMs fail with InvalidState", "task:InvalidState", 0.2, all...),
		faulted("tasks-fail", "tasks that change VMs fail with SystemError", "task:SystemErrorFault", 0.2, all...),
		faulted("tasks-cancelled", "tasks that change VMs are cancelled by somebody", "task:RequestCanceled", 0.2, all...),
		faulted("answers-lost", "methods that change VMs are executed, and the connection is cut instead of an answer", vchsim.KindResponseLost, 0.2, all...),
		faulted("calls-cut", "any call may find the connection cut instead of being executed", vchsim.KindConnectionReset, 0.1, "*"),
	}
}

// guestKinds change how guests behave that are switched on or stopped meanwhile.
func guestKinds() []Kind {
	guest := func(name, does string, of func(strength float64) vchsim.GuestOptions) Kind {
		return Kind{
			Name: name, Does: does, Undone: "guests that are switched on later behave",
			strike: func(_ context.Context, w *World, strength float64) (string, undo, error) {
				options := of(strength)
				w.Sim.SetGuest(options)
				return "", func(context.Context) error { w.Sim.SetGuest(vchsim.GuestOptions{}); return nil }, nil
			},
		}
	}
	return []Kind{
		guest("guests-slow", "guests say their first word 2 to 8 s after power-on, and stop 1 to 3 s after they are told to", func(s float64) vchsim.GuestOptions {
			return vchsim.GuestOptions{Delay: 2*time.Second + time.Duration(s*6*float64(time.Second)), StopDelay: time.Second + time.Duration(s*2*float64(time.Second))}
		}),
		guest("guests-crash", "guests power off before their process runs", func(float64) vchsim.GuestOptions { return vchsim.GuestOptions{Crash: true} }),
		guest("guests-hang", "guests stay on and never say a word", func(float64) vchsim.GuestOptions { return vchsim.GuestOptions{Hang: true} }),
		guest("guests-deaf", "guests accept every stop and ignore it", func(float64) vchsim.GuestOptions { return vchsim.GuestOptions{IgnoreStop: true} }),
	}
}

// accessKinds are about sessions, the password and the certificate.
func accessKinds() []Kind {
	return []Kind{
		{
			Name: "sessions-killed", Does: "all sessions are ended every 0.5 to 2 s", Undone: "nobody does it any more",
			strike: func(ctx context.Context, w *World, strength float64) (string, undo, error) {
				interval := 2*time.Second - time.Duration(strength*1.5*float64(time.Second))
				stop := every(ctx, interval, func(context.Context) { w.Sim.ExpireSessions() })
				return "every " + interval.String(), func(context.Context) error { stop(); return nil }, nil
			},
		},
		{
			Name: "password-rotated", Does: "the password is changed in vCenter and at once in the Secret; 6 s later or more all sessions are ended", Undone: "not at all: the new password stays",
			Least: 6 * time.Second, // calls that began with the old Secret have ended by then
			strike: func(ctx context.Context, w *World, _ float64) (string, undo, error) {
				w.rotatePassword()
				if err := w.updateSecret(ctx); err != nil {
					return "", nil, err
				}
				return "", func(context.Context) error { w.Sim.ExpireSessions(); return nil }, nil
			},
		},
		{
			Name: "password-rotated-late", Does: "the password is changed in vCenter, and all sessions are ended", Undone: "the Secret gets the new password",
			strike: func(_ context.Context, w *World, _ float64) (string, undo, error) {
				w.rotatePassword()
				w.Sim.ExpireSessions()
				return "", w.updateSecret, nil
			},
		},
		{
			Name: "certificate-changed", Does: "the Secret gets the new certificate beside the old one, 4 s later vCenter has it, and all connections are cut", Undone: "the Secret has the new one only",
			Least:  8 * time.Second,
			strike: changeCertificate,
		},
		{
			Name: "certificate-changed-late", Does: "vCenter has another certificate, and all connections are cut", Undone: "the Secret gets the new certificate",
			strike: func(_ context.Context, w *World, _ float64) (string, undo, error) {
				return "", w.updateSecret, changeAtOnce(w)
			},
		},
	}
}

// changeAtOnce changes the certificate when nobody knows of it.
func changeAtOnce(w *World) error {
	renewed, err := w.Sim.NewCertificate()
	if err != nil {
		return err
	}
	w.Sim.SetCertificate(renewed)
	return w.cutConnections()
}

// changeCertificate does it as an administrator should.
func changeCertificate(ctx context.Context, w *World, _ float64) (string, undo, error) {
	renewed, err := w.Sim.NewCertificate()
	if err != nil {
		return "", nil, err
	}
	both := append(w.Sim.CACert(), renewed.PEM()...)
	if err := w.patchSecret(ctx, map[string]string{v1alpha1.SecretCABundle: string(both)}); err != nil {
		return "", nil, err
	}
	// Calls that began with the old Secret trust nothing but the old certificate.
	if err := waitUntil(ctx, time.Now().Add(4*time.Second)); err != nil {
		return "", nil, err
	}
	w.Sim.SetCertificate(renewed)
	return "", w.updateSecret, w.cutConnections()
}
