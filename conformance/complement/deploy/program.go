package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/matrix-org/complement/client"
)

// programFromEnv reads KOINE_DEPLOY: koine (the program under test) or synapse (a second opinion on what a test wants).
func programFromEnv() (Program, error) {
	switch choice := os.Getenv("KOINE_DEPLOY"); choice {
	case "", "koine":
		bin := os.Getenv("KOINE_BIN")
		if bin == "" {
			return nil, fmt.Errorf("KOINE_BIN must name the koine program")
		}
		return koine{bin}, nil
	case "synapse":
		venv := os.Getenv("SYNAPSE_VENV")
		if venv == "" {
			return nil, fmt.Errorf("SYNAPSE_VENV must name a virtual environment with matrix-synapse in it")
		}
		return synapse{filepath.Join(venv, "bin", "python")}, nil
	default:
		return nil, fmt.Errorf("KOINE_DEPLOY=%s is neither koine nor synapse", choice)
	}
}

// processSlot tells test binaries that run at the same time apart (KOINE_SLOT, else from the process id).
func processSlot() int {
	if n, err := strconv.Atoi(os.Getenv("KOINE_SLOT")); err == nil && n >= 0 {
		return n
	}
	return os.Getpid()
}

// koine is the program of this repository.
type koine struct{ bin string }

func (koine) Prepare(Place) error { return nil }

func (k koine) Command(p Place) *exec.Cmd {
	args := []string{"local",
		"--no-demo",
		"--data-dir", filepath.Join(p.Dir, "data"),
		"--server-name", p.Name,
		"--port-base", strconv.Itoa(p.Ports.Client),
		"--registration-shared-secret", client.SharedSecret,
		"--tls-cert", p.Certificate.Chain,
		"--tls-key", p.Certificate.Key,
		"--federation-ca", p.Certificate.Authority,
	}
	for _, other := range p.Others {
		args = append(args, "--server-at", other)
	}
	for _, registration := range p.Registrations {
		args = append(args, "--appservice", registration)
	}
	args = append(args, strings.Fields(os.Getenv("KOINE_ARGS"))...)
	return exec.Command(k.bin, args...)
}
