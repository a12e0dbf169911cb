// Package deploy runs homeservers for Complement as plain processes on loopback.
//
// Complement asks a Deployment for servers called hs1, hs2, ... (contract: complement.Deployment, which is where each
// method is described). Here every server is one process with a data folder of its own that is removed afterwards.
// How a program is started and when it is ready is a Program's business: see koine.go and synapse.go.
package deploy

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/matrix-org/complement"
	"github.com/matrix-org/complement/b"
	"github.com/matrix-org/complement/client"
	"github.com/matrix-org/complement/config"
	"github.com/matrix-org/complement/ct"
	"github.com/matrix-org/complement/helpers"
	"github.com/matrix-org/gomatrixserverlib/spec"
)

const (
	// What Complement's own deployer gives to each client; tests count on it.
	syncUntilTimeout = 5 * time.Second
	// The suite's password for those that do not choose one.
	defaultPassword = "complement_meets_min_password_req"
)

// localparts is shared by all deployments, so that users of a server that several tests share never clash.
var localparts atomic.Int64

// Deployer makes deployments; give its Deploy to complement.WithDeployment and its Cleanup to complement.WithCleanup.
type Deployer struct {
	program Program
	root    string
	// shared is the one server that every single-server test gets when COMPLEMENT_ENABLE_DIRTY_RUNS is set.
	shared   *deployment
	sharedMu sync.Mutex
}

// New chooses the program named by KOINE_DEPLOY ("koine" unless said otherwise).
func New() *Deployer {
	program, err := programFromEnv()
	if err != nil {
		fmt.Fprintln(os.Stderr, "deployer:", err)
		os.Exit(2)
	}
	root, err := os.MkdirTemp("", "koine-complement-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "deployer: no folder for the servers:", err)
		os.Exit(2)
	}
	return &Deployer{program: program, root: root}
}

// Deploy starts numServers servers and returns when all of them answer.
func (d *Deployer) Deploy(t ct.TestLike, numServers int, cfg *config.Complement) complement.Deployment {
	t.Helper()
	if !cfg.EnableDirtyRuns || numServers != 1 {
		return d.start(t, numServers, cfg)
	}
	d.sharedMu.Lock()
	defer d.sharedMu.Unlock()
	if d.shared == nil {
		d.shared = d.start(t, 1, cfg)
		d.shared.isShared = true
	}
	return d.shared
}

// Cleanup ends what is still running and removes every data folder.
func (d *Deployer) Cleanup(*config.Complement) {
	if d.shared != nil {
		d.shared.killAll()
	}
	_ = os.RemoveAll(d.root)
}

func (d *Deployer) start(t ct.TestLike, numServers int, cfg *config.Complement) *deployment {
	t.Helper()
	return d.startWith(t, numServers, cfg, nil)
}

// startWith starts servers, of which those named know application services.
func (d *Deployer) startWith(t ct.TestLike, numServers int, cfg *config.Complement, services map[string][]b.ApplicationService) *deployment {
	t.Helper()
	began := time.Now()
	dep := &deployment{cfg: cfg, servers: make(map[string]*server, numServers), services: services}
	for i := 1; i <= numServers; i++ {
		dir, err := os.MkdirTemp(d.root, fmt.Sprintf("hs%d-", i))
		if err != nil {
			ct.Fatalf(t, "Deploy: no data folder: %s", err)
		}
		ports, err := reservePorts()
		if err != nil {
			ct.Fatalf(t, "Deploy: %s", err)
		}
		// Tests spell these names out, also in lists of servers that a room shuts out, where no port may stand.
		name := fmt.Sprintf("hs%d", i)
		certificate, err := certify(cfg, dir, name)
		if err != nil {
			ct.Fatalf(t, "Deploy: no certificate: %s", err)
		}
		registrations, err := register(dir, services[name])
		if err != nil {
			ct.Fatalf(t, "Deploy: no registration of an application service: %s", err)
		}
		dep.servers[name] = &server{
			program: d.program,
			place: Place{
				Name: name, Dir: dir, Ports: ports, Log: filepath.Join(dir, "server.log"), Certificate: certificate,
				Registrations: registrations,
			},
			timeout: cfg.SpawnHSTimeout,
		}
	}
	for name, srv := range dep.servers {
		for other, there := range dep.servers {
			if other != name {
				srv.place.Others = append(srv.place.Others, there.place.destination())
			}
		}
	}
	for hs, srv := range dep.servers {
		if err := srv.start(); err != nil {
			dep.printLogs(t)
			dep.killAll()
			ct.Fatalf(t, "Deploy: %s does not come up: %s", hs, err)
		}
	}
	t.Logf("Deploy: %d server(s) up in %v", numServers, time.Since(began))
	return dep
}

// deployment is a set of running servers.
type deployment struct {
	cfg      *config.Complement
	servers  map[string]*server
	services map[string][]b.ApplicationService
	isShared bool
}

func (d *deployment) server(t ct.TestLike, hsName string) *server {
	t.Helper()
	srv, ok := d.servers[hsName]
	if !ok {
		ct.Fatalf(t, "no server %q in this deployment", hsName)
	}
	return srv
}

func (d *deployment) client(t ct.TestLike, hsName, password string) *client.CSAPI {
	t.Helper()
	return client.NewCSAPI(client.CSAPIOpts{
		BaseURL:          d.server(t, hsName).place.clientURL(),
		Client:           client.NewLoggedClient(t, hsName, nil),
		SyncUntilTimeout: syncUntilTimeout,
		Debug:            d.cfg.DebugLoggingEnabled,
		Password:         password,
	})
}

func (d *deployment) GetFullyQualifiedHomeserverName(t ct.TestLike, hsName string) spec.ServerName {
	t.Helper()
	return spec.ServerName(d.server(t, hsName).place.Name)
}

func (d *deployment) UnauthenticatedClient(t ct.TestLike, hsName string) *client.CSAPI {
	t.Helper()
	return d.client(t, hsName, "")
}

func (d *deployment) Register(t ct.TestLike, hsName string, opts helpers.RegistrationOpts) *client.CSAPI {
	t.Helper()
	password := opts.Password
	if password == "" {
		password = defaultPassword
	}
	localpart := fmt.Sprintf("user-%d", localparts.Add(1))
	if opts.LocalpartSuffix != "" {
		localpart += "-" + opts.LocalpartSuffix
	}
	c := d.client(t, hsName, password)
	if opts.IsAdmin {
		c.UserID, c.AccessToken, c.DeviceID = c.RegisterSharedSecret(t, localpart, password, true)
	} else {
		c.UserID, c.AccessToken, c.DeviceID = c.RegisterUser(t, localpart, password)
	}
	return c
}

func (d *deployment) Login(t ct.TestLike, hsName string, existing *client.CSAPI, opts helpers.LoginOpts) *client.CSAPI {
	t.Helper()
	localpart, err := localpartOf(existing.UserID)
	if err != nil {
		ct.Fatalf(t, "Login: %s", err)
	}
	password := opts.Password
	if password == "" {
		password = existing.Password
	}
	c := d.client(t, hsName, password)
	var choices []client.LoginOpt
	if opts.DeviceID != "" {
		choices = append(choices, client.WithDeviceID(opts.DeviceID))
	}
	c.UserID, c.AccessToken, c.DeviceID = c.LoginUser(t, localpart, password, choices...)
	return c
}

func (d *deployment) AppServiceUser(t ct.TestLike, hsName, userID string) *client.CSAPI {
	t.Helper()
	for _, service := range d.services[hsName] {
		c := d.client(t, hsName, "")
		if userID == fmt.Sprintf("@%s:%s", service.SenderLocalpart, d.server(t, hsName).place.Name) {
			c.UserID, c.AccessToken = userID, service.ASToken
			return c
		}
	}
	ct.Fatalf(t, "AppServiceUser(%s, %s): no application service has this user", hsName, userID)
	return nil
}

func (d *deployment) Restart(t ct.TestLike) error {
	t.Helper()
	for hs, srv := range d.servers {
		if err := srv.stop(); err != nil {
			return fmt.Errorf("restart of %s: %w", hs, err)
		}
		if err := srv.start(); err != nil {
			return fmt.Errorf("restart of %s: %w", hs, err)
		}
	}
	return nil
}

func (d *deployment) StopServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := d.server(t, hsName).stop(); err != nil {
		ct.Fatalf(t, "StopServer: %s", err)
	}
}

func (d *deployment) StartServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := d.server(t, hsName).start(); err != nil {
		ct.Fatalf(t, "StartServer: %s", err)
	}
}

func (d *deployment) PauseServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := d.server(t, hsName).pause(); err != nil {
		ct.Fatalf(t, "PauseServer: %s", err)
	}
}

func (d *deployment) UnpauseServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := d.server(t, hsName).unpause(); err != nil {
		ct.Fatalf(t, "UnpauseServer: %s", err)
	}
}

// ContainerID is the process id: what one needs to look at the server from outside.
func (d *deployment) ContainerID(t ct.TestLike, hsName string) string {
	t.Helper()
	return d.server(t, hsName).pid()
}

func (d *deployment) Destroy(t ct.TestLike) {
	t.Helper()
	if t.Failed() || d.cfg.AlwaysPrintServerLogs {
		d.printLogs(t)
	}
	if d.isShared {
		return
	}
	d.killAll()
	for _, srv := range d.servers {
		_ = os.RemoveAll(srv.place.Dir)
	}
}

func (d *deployment) GetConfig() *config.Complement { return d.cfg }

func (d *deployment) RoundTripper() http.RoundTripper { return newRoundTripper(d) }

func (d *deployment) Network() string { return "loopback" }

func (d *deployment) killAll() {
	for _, srv := range d.servers {
		srv.kill()
	}
}

func (d *deployment) printLogs(t ct.TestLike) {
	t.Helper()
	for hs, srv := range d.servers {
		t.Logf("---- last lines of %s ----\n%s", hs, srv.lastLines())
	}
}
