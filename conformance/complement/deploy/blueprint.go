package deploy

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/matrix-org/complement"
	"github.com/matrix-org/complement/b"
	"github.com/matrix-org/complement/config"
	"github.com/matrix-org/complement/ct"
)

// DeployBlueprint starts the servers of a blueprint, with its application services. Some older tests of the suite ask for one
// instead of a number of servers. People and rooms of a blueprint are not made: those tests make their own.
func (d *Deployer) DeployBlueprint(t ct.TestLike, blueprint b.Blueprint, cfg *config.Complement) complement.Deployment {
	t.Helper()
	services := make(map[string][]b.ApplicationService, len(blueprint.Homeservers))
	for i, hs := range blueprint.Homeservers {
		if want := fmt.Sprintf("hs%d", i+1); hs.Name != want {
			ct.Fatalf(t, "Deploy: the blueprint %s calls a server %s, where this deployer has %s", blueprint.Name, hs.Name, want)
		}
		if len(hs.Rooms) > 0 {
			ct.Fatalf(t, "Deploy: the blueprint %s wants rooms, which this deployer does not make", blueprint.Name)
		}
		services[hs.Name] = hs.ApplicationServices
	}
	return d.startWith(t, len(blueprint.Homeservers), cfg, services)
}

// register writes a registration file for each application service.
func register(dir string, services []b.ApplicationService) ([]string, error) {
	var files []string
	for _, service := range services {
		text := fmt.Sprintf(`id: %q
url: %q
as_token: %q
hs_token: %q
sender_localpart: %q
rate_limited: %t
receive_ephemeral: %t
namespaces:
  users: [{exclusive: false, regex: '.*'}]
  rooms: []
  aliases: []
`, service.ID, service.URL, service.ASToken, service.HSToken, service.SenderLocalpart, service.RateLimited,
			service.SendEphemeral)
		file := filepath.Join(dir, service.ID+".yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}
