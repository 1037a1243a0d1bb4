// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// enveloped is a SOAP answer.
func enveloped(content string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>` +
		content + `</soapenv:Body></soapenv:Envelope>`
}

func TestAnswersThatCannotBeUnderstoodAreUnavailable(t *testing.T) {
	t.Parallel()
	task := enveloped(`<CreateVM_TaskResponse xmlns="urn:vim25"><returnval type="Task">task-1</returnval></CreateVM_TaskResponse>`)
	object := enveloped(`<CurrentTimeResponse xmlns="urn:vim25"><returnval>2026-01-02T03:04:05Z</returnval></CurrentTimeResponse>`)
	change := func(ctx context.Context, rt soap.RoundTripper) error {
		_, err := methods.CreateVM_Task(ctx, rt, &types.CreateVM_Task{})
		return err
	}
	read := func(ctx context.Context, rt soap.RoundTripper) error {
		_, err := methods.CurrentTime(ctx, rt, &types.CurrentTime{})
		return err
	}
	const page = "<html><head><title>Maintenance</title></head><body>We will be back soon.<br></body></html>"
	for name, tc := range map[string]struct {
		status int
		body   string
		call   func(context.Context, soap.RoundTripper) error
		kind   errdefs.Kind // "": none
		lives  bool
	}{
		"a change that is answered":         {200, task, change, "", true},
		"a read that is answered":           {200, object, read, "", true},
		"a change, cut off":                 {200, task[:len(task)/2], change, errdefs.Unavailable, false},
		"a read, cut off":                   {200, object[:len(object)/2], read, errdefs.Unavailable, false},
		"cut off before the end":            {200, task[:len(task)-1], change, errdefs.Unavailable, false},
		"nothing":                           {200, "", change, errdefs.Unavailable, false},
		"500 with nothing":                  {500, "", read, errdefs.Unavailable, false},
		"bytes":                             {200, "\xff\x00<&\x1b\xff\x00<&\x1b", change, errdefs.Unavailable, false},
		"text":                              {200, "We will be back soon.", read, errdefs.Unavailable, false},
		"JSON":                              {200, `{"error": "maintenance"}`, read, errdefs.Unavailable, false},
		"a page to a change":                {200, page, change, errdefs.Unavailable, false},
		"a page to a read":                  {200, page, read, errdefs.Unavailable, false},
		"a page that is XML":                {200, strings.Replace(page, "<br>", "<br/>", 1), read, errdefs.Unavailable, false},
		"500 with a page":                   {500, page, change, errdefs.Unavailable, false},
		"a character set that nobody knows": {200, strings.Replace(task, "UTF-8", "x-none", 1), change, errdefs.Unavailable, false},
		"a value of another type":           {200, strings.Replace(object, "2026", "in 2026", 1), read, errdefs.Unavailable, false},
		"an answer to another call":         {200, object, change, errdefs.Unavailable, false},
		"SOAP without content":              {200, enveloped(""), change, errdefs.Unavailable, false},
		"404 with a page":                   {404, page, read, errdefs.Unavailable, true},
		"a fault that says nothing": {
			500, enveloped(`<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>no</faultstring></soapenv:Fault>`),
			change, errdefs.Internal, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(len(tc.body)))
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			defer server.Close()
			u, err := url.Parse(server.URL + "/sdk")
			if err != nil {
				t.Fatal(err)
			}
			l := newLine(t, Options{BreakerFailures: 1})
			client := soap.NewClient(u, false)
			client.Transport = &statuses{next: client.DefaultTransport(), clock: l.clock}
			defer client.CloseIdleConnections()
			err = tc.call(t.Context(), l.guard(understood(client)))
			if got := errdefs.KindOf(Convert(err, "call")); got != tc.kind {
				t.Errorf("%v is %q, want %q", err, got, tc.kind)
			}
			if v := judge(t.Context(), err); v.passing == tc.lives {
				t.Errorf("%v: may be repeated: %t", err, v.passing)
			}
			if lives := l.stats(0).Breaker == BreakerClosed; lives != tc.lives {
				t.Errorf("%v: vCenter is believed to live: %t, want %t", err, lives, tc.lives)
			}
		})
	}
}

func TestAMethodWithoutResultNeedsNoContent(t *testing.T) {
	t.Parallel()
	if !empty(&methods.CreateVM_TaskBody{}) || empty(&methods.LogoutBody{}) || empty(&methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{}}) {
		t.Error("content is missed where there is none, or not where there is some")
	}
}
