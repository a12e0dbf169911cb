package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	readyPoll = 10 * time.Millisecond
	// A server that has not gone this long after SIGTERM does not end cleanly, which is a finding of its own.
	stopTimeout = 15 * time.Second
	// Of a failed test's server this much of the log is shown.
	logTail = 8 << 10
)

// Place is where one server lives.
type Place struct {
	Name  string // its Matrix server name
	Dir   string // its own data folder
	Ports Ports
	Log   string // where standard output and error go
	// What it shows to other servers, and whom it believes.
	Certificate Certificate
	// Where the other servers of the deployment are, each as NAME=ADDRESS: their names are in no DNS.
	Others []string
	// Files that make application services known.
	Registrations []string
}

func (p Place) destination() string {
	return fmt.Sprintf("%s=127.0.0.1:%d", p.Name, p.Ports.Federation)
}

func (p Place) clientURL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.Ports.Client) }

// Program is something that can be run as a homeserver.
type Program interface {
	// Prepare is called once per server before its first start (write a configuration, make keys).
	Prepare(Place) error
	// Command starts the server in the foreground.
	Command(Place) *exec.Cmd
}

// server is one homeserver process; it can be stopped and started again on the same data.
type server struct {
	program  Program
	place    Place
	timeout  time.Duration
	prepared bool
	cmd      *exec.Cmd
	exited   chan struct{} // closed when cmd has ended
	mu       sync.Mutex
}

func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("it is running already")
	}
	if !s.prepared {
		if err := s.program.Prepare(s.place); err != nil {
			return err
		}
		s.prepared = true
	}
	log, err := os.OpenFile(s.place.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.program.Command(s.place)
	cmd.Stdout, cmd.Stderr = log, log
	// A test run that dies must not leave servers behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn(cmd); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	s.cmd, s.exited = cmd, exited
	if err := s.awaitReady(); err != nil {
		s.killLocked()
		return err
	}
	return nil
}

// awaitReady returns once the server answers, or with the reason why it never will.
func (s *server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", s.place.clientURL()+"/_matrix/client/versions", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.exited:
			return fmt.Errorf("it ended before it was ready: %s", s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v", s.timeout)
		case <-time.After(readyPoll):
		}
	}
}

// stop asks the server to end and waits until it has.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return errors.New("it is not running")
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		s.cmd = nil
		return nil
	case <-time.After(stopTimeout):
		s.killLocked()
		return fmt.Errorf("it did not end within %v of SIGTERM", stopTimeout)
	}
}

func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killLocked()
}

func (s *server) killLocked() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

func (s *server) pause() error   { return s.signal(syscall.SIGSTOP) }
func (s *server) unpause() error { return s.signal(syscall.SIGCONT) }

func (s *server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return errors.New("it is not running")
	}
	return s.cmd.Process.Signal(sig)
}

func (s *server) pid() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return ""
	}
	return strconv.Itoa(s.cmd.Process.Pid)
}

func (s *server) lastLines() []byte {
	text, err := os.ReadFile(s.place.Log)
	if err != nil {
		return []byte(err.Error())
	}
	if len(text) > logTail {
		text = text[len(text)-logTail:]
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			text = text[i+1:]
		}
	}
	return text
}

type spawnRequest struct {
	cmd *exec.Cmd
	err chan error
}

// spawner starts all processes from one thread that lives as long as the test binary: the kernel sends the parent-death
// signal when the starting *thread* ends, and Go's threads come and go.
var spawner = sync.OnceValue(func() chan<- spawnRequest {
	requests := make(chan spawnRequest)
	go func() {
		runtime.LockOSThread()
		for r := range requests {
			r.err <- r.cmd.Start()
		}
	}()
	return requests
})

func spawn(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	spawner() <- spawnRequest{cmd, done}
	return <-done
}
