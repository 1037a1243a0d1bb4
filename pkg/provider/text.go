// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machineutils"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

const (
	// maxMessageBytes is far above what a person reads, and little for a Machine's status.
	maxMessageBytes = 4096
	redacted        = "<redacted>"
	// minSecretBytes is how long a value must be to be redacted as a whole. Shorter
	// ones occur in innocent words, and redacting those would tell the value.
	minSecretBytes = 6
	// minUserDataWord is how long a word of userData must be to count as a
	// secret of its own: tokens and keys are, commands and options are not.
	minUserDataWord = 16
)

var (
	// userinfo is what stands before the host of a URL.
	userinfo = regexp.MustCompile(`(://)[^\s/?#@]*(?:@[^\s/?#@]*)*@`)
	// plainWord is a path or an option as scripts have them.
	plainWord = regexp.MustCompile(`^[/-][a-z0-9./_-]*$`)
	// bootstrapToken is Kubernetes' form of such tokens.
	bootstrapToken = regexp.MustCompile(`\b([a-z0-9]{6})\.[a-z0-9]{16}\b`)
)

// phrases are the texts in a Machine's last operation by which MCM knows how far a
// deletion, an initialization or an update in place has come.
func phrases() []string {
	return []string{
		machineutils.GetVMStatus,
		machineutils.InstanceInitialization,
		machineutils.InitiateDrain,
		machineutils.NodeReadyForUpdate,
		machineutils.DelVolumesAttachments,
		machineutils.InitiateVMDeletion,
		machineutils.InitiateNodeDeletion,
		machineutils.InitiateFinalizerRemoval,
	}
}

// clean makes text fit for the message of a status; outOfRange says that this is
// its code. The result is one line of UTF-8 that MCM's parser gives back as it
// is; cleaning it again changes nothing.
func clean(text string, outOfRange bool, secrets []string) string {
	text = oneLine(text)
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, redacted)
	}
	text = userinfo.ReplaceAllString(text, "$1")
	text = bootstrapToken.ReplaceAllString(text, "$1."+redacted)
	text = neutralize(text, outOfRange)
	text = clip(text)
	return pairBrackets(text)
}

// oneLine replaces what is not UTF-8 and what would break a line.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, string(utf8.RuneError)))
}

// clip cuts a text that is too long at a rune's border.
func clip(text string) string {
	const mark = " …"
	if len(text) <= maxMessageBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessageBytes-len(mark)], "") + mark
}

// neutralize takes away MCM's own words: its phrases lose their blanks, and
// OutOfRange, which starts a collection of orphans, is spelled in another way
// unless it is what the error says.
func neutralize(text string, outOfRange bool) string {
	for _, phrase := range phrases() {
		text = strings.ReplaceAll(text, phrase, strings.ReplaceAll(phrase, " ", "_"))
	}
	if !outOfRange {
		text = strings.ReplaceAll(text, codes.OutOfRange.String(), "out_of_range")
	}
	return text
}

// pairBrackets keeps square brackets that come in pairs, as around the name of a
// datastore, and makes round ones of the others.
func pairBrackets(text string) string {
	runes := []rune(text)
	var open []int
	for i, r := range runes {
		switch {
		case r == '[':
			open = append(open, i)
		case r == ']' && len(open) > 0:
			open = open[:len(open)-1]
		case r == ']':
			runes[i] = ')'
		}
	}
	for _, i := range open {
		runes[i] = '('
	}
	return string(runes)
}

// secretsOf returns the texts that must not leave with an error: all values of
// the Secret except those that say where and as whom to connect, the words of
// userData, and the usual ways to write them. Words that also stand in public,
// the text of what is no secret, are none; nor are plain paths and options.
// Longer texts come first.
func secretsOf(secret *corev1.Secret, public string) []string {
	if secret == nil {
		return nil
	}
	public += "\n" + string(secret.Data[v1alpha1.SecretHost]) + "\n" + string(secret.Data[v1alpha1.SecretUsername])
	var found []string
	add := func(value string, shortest int) {
		if len(value) >= shortest {
			quoted := strconv.Quote(value)
			found = append(found, oneLine(value), quoted[1:len(quoted)-1], url.QueryEscape(value), url.PathEscape(value),
				base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
		}
	}
	for key, raw := range secret.Data {
		value := string(raw)
		switch key {
		case v1alpha1.SecretHost, v1alpha1.SecretUsername, v1alpha1.SecretInsecure, v1alpha1.SecretCABundle, v1alpha1.SecretThumbprint:
			continue
		case v1alpha1.SecretUserData:
			for _, word := range strings.FieldsFunc(value, betweenWords) {
				if !plainWord.MatchString(word) && !strings.Contains(public, word) {
					add(word, minUserDataWord)
				}
			}
		}
		add(value, minSecretBytes)
		add(strings.TrimSpace(value), minSecretBytes)
	}
	slices.SortFunc(found, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	return slices.Compact(found)
}

func betweenWords(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("\"'`=:,;<>(){}[]|&$@", r)
}
