package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/matrix-org/complement/client"
)

// synapse is the reference implementation, on SQLite. Running the suite against it tells whether a failure is ours, the
// test's, or this deployer's.
type synapse struct{ python string }

func (s synapse) Prepare(p Place) error {
	text := fmt.Sprintf(`server_name: %q
report_stats: false
pid_file: %q
listeners:
  - {port: %d, type: http, bind_addresses: ['127.0.0.1'], resources: [{names: [client, federation]}]}
database: {name: sqlite3, args: {database: %q}}
media_store_path: %q
signing_key_path: %q
log_config: %q
registration_shared_secret: %q
macaroon_secret_key: complement
form_secret: complement
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
default_room_version: '11'
allow_public_rooms_without_auth: true
room_list_publication_rules: [{action: allow}]
enable_authenticated_media: false
server_notices: {system_mxid_localpart: _server, system_mxid_display_name: Server Alert, room_name: Server Alert}
trusted_key_servers: []
rc_message: {per_second: 9999, burst_count: 9999}
rc_registration: {per_second: 9999, burst_count: 9999}
rc_registration_token_validity: {per_second: 9999, burst_count: 9999}
rc_login:
  address: {per_second: 9999, burst_count: 9999}
  account: {per_second: 9999, burst_count: 9999}
  failed_attempts: {per_second: 9999, burst_count: 9999}
rc_joins: {local: {per_second: 9999, burst_count: 9999}, remote: {per_second: 9999, burst_count: 9999}}
rc_joins_per_room: {per_second: 9999, burst_count: 9999}
rc_invites:
  per_room: {per_second: 9999, burst_count: 9999}
  per_user: {per_second: 9999, burst_count: 9999}
rc_room_creation: {per_second: 9999, burst_count: 9999}
rc_media_create: {per_second: 9999, burst_count: 9999}
rc_presence: {per_user: {per_second: 9999, burst_count: 9999}}
`, p.Name, p.file("pid"), p.Ports.Client, p.file("homeserver.db"), p.file("media"), p.file("signing.key"),
		p.file("log.yaml"), client.SharedSecret)
	if err := os.WriteFile(p.file("homeserver.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	logging := "version: 1\nhandlers: {console: {class: logging.StreamHandler}}\nroot: {level: WARNING, handlers: [console]}\n"
	if err := os.WriteFile(p.file("log.yaml"), []byte(logging), 0o600); err != nil {
		return err
	}
	out, err := exec.Command(s.python, "-m", "synapse.app.homeserver", "-c", p.file("homeserver.yaml"), "--generate-keys").CombinedOutput()
	if err != nil {
		return fmt.Errorf("making its keys: %w\n%s", err, out)
	}
	return nil
}

func (s synapse) Command(p Place) *exec.Cmd {
	cmd := exec.Command(s.python, "-m", "synapse.app.homeserver", "-c", p.file("homeserver.yaml"))
	cmd.Dir = p.Dir
	return cmd
}

func (p Place) file(name string) string { return filepath.Join(p.Dir, name) }
