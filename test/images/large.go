// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Program is endless content like that of programs: half of it compresses. The same
// seed gives the same.
func Program(seed int) io.Reader {
	return &code{random: rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})}
}

type code struct {
	random *rand.ChaCha8
	at     int
}

// Read implements io.Reader.
func (p *code) Read(b []byte) (int, error) {
	const text = "call push mov rax rbx lea test jmp ret xor add sub cmp je jne nop"
	for done := 0; done < len(b); {
		n := min(len(text)-p.at%len(text), len(b)-done)
		if p.at/len(text)%2 == 0 {
			_, _ = p.random.Read(b[done : done+n]) // never fails
		} else {
			copy(b[done:], text[p.at%len(text):][:n])
		}
		done += n
		p.at += n
	}
	return len(b), nil
}

// Large makes the layers of an image of so many MB of programs, as those of nodes
// are: few large files and many small ones, in three layers. Their blobs are in dir.
func Large(dir string, megabytes int) ([]v1.Layer, error) {
	var layers []v1.Layer
	for n := range 3 {
		entries := []Entry{Dir("usr"), Dir("usr/bin"), Dir("usr/lib")}
		left := int64(megabytes) * 1_000_000 / 3
		for i := 0; left > 0; i++ {
			name, size := fmt.Sprintf("usr/lib/l%d/%d/module-%d.so", n, i%50, i), int64(20_000)
			if i%100 == 0 {
				name, size = fmt.Sprintf("usr/bin/program-%d-%d", n, i), 8_000_000
			}
			size = min(size, left)
			left -= size
			entries = append(entries, Entry{
				Name: name, Mode: 0o755, Size: size, Open: func() io.Reader { return Program(n<<16 | i) },
			})
		}
		layer, err := LayerWith(LayerOptions{Fast: true, File: filepath.Join(dir, fmt.Sprint(n))}, entries...)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return layers, nil
}
