package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// rivalNodes is how many nodes the peers run on.
const rivalNodes = 100

const rivalMethod = "`true` on every node, until the last result is back. fleetmesh as in the tables above, asked of a member. clush (64 at a time) and ansible (50 forks, pipelining, its connections kept by ControlPersist and warm) " +
	"go to one sshd that answers on one address for each node, with key exchange curve25519 and a login shell of /bin/sh. The rows take turns."

// benchRivals compares with what else runs commands on many machines.
func benchRivals(ctx context.Context, b *bench) error {
	floors, err := newFloorMesh(ctx, filepath.Join(b.dir, "rivalfloor"), "127.77.1", rivalNodes)
	if err != nil {
		return err
	}
	defer floors.close()
	ours, err := b.sshRivals(ctx, floors)
	if err != nil {
		return err
	}
	if !installed("serf") {
		return nil
	}
	return b.serfRival(ctx, floors, ours)
}

func (b *bench) sshRivals(ctx context.Context, floors *floorMesh) (ours []float64, err error) {
	m, err := b.newMesh(ctx, "rivals", "127.77.2", rivalNodes)
	if err != nil {
		return nil, err
	}
	defer m.close()
	if err := m.awaitVoters(ctx, 5); err != nil {
		return nil, err
	}
	if err := pause(ctx, settled); err != nil {
		return nil, err
	}
	roles, err := m.roles(ctx)
	if err != nil {
		return nil, err
	}
	f := &fanout{bench: b, mesh: m, floors: floors, n: rivalNodes}
	us := &contender{name: "fleetmesh", rest: rest, run: func(ctx context.Context) (time.Duration, error) {
		return m.client(roles.member).run(ctx, f.all(), rivalNodes)
	}}
	warm := &contender{name: "warm floor", rest: 100 * time.Millisecond, run: func(context.Context) (time.Duration, error) { return floors.fan(rivalNodes, false) }}
	contenders := []*contender{warm, us}
	rivals, closeRivals, err := openSSHRivals(ctx, b, "127.77.9", rivalNodes)
	if err != nil {
		return nil, err
	}
	defer closeRivals()
	var aims = map[string]float64{"clush": 10, "ansible -m raw": 20, "ansible -m shell": 50}
	contenders = append(contenders, rivals...)
	t := &table{Title: fmt.Sprintf("Peers: run `true` on %d nodes", rivalNodes), Method: rivalMethod, Floor: &floorCheck{What: "warm mTLS and exec, beside the resting mesh", Unit: "ms"}}
	if t.Floor.Before, err = floors.fans(rivalNodes, 15, false); err != nil {
		return nil, err
	}
	if err := takeTurns(ctx, b.times(5, 2), contenders); err != nil {
		return nil, err
	}
	if t.Floor.After, err = floors.fans(rivalNodes, 15, false); err != nil {
		return nil, err
	}
	floor := append(t.Floor.both(), warm.values...)
	t.add(warm.name, "ms", floor)
	t.add(us.name, "ms", us.values).times(floor, warm.name)
	for _, r := range rivals {
		t.add(r.name, "ms", r.values).times(us.values, us.name).atLeast(aims[r.name])
	}
	for _, missing := range []struct{ name, program string }{{"clush", "clush"}, {"ansible", "ansible"}} {
		if !installed("ssh", missing.program) || !hasSSHD() {
			t.Notes = append(t.Notes, missing.name+" is not installed and was not measured.")
		}
	}
	b.finish(t)
	return us.values, nil
}

// serfRival has the machine to itself: 100 agents beside 100 nodes would disturb
// each other.
func (b *bench) serfRival(ctx context.Context, floors *floorMesh, ours []float64) error {
	t := &table{
		Title:  fmt.Sprintf("Peers: a serf query on %d nodes", rivalNodes),
		Method: "From the query, on a warm RPC connection, until the last of all answers; each agent starts `" + serfCommand + "`. fleetmesh's runs are those of the table above: both meshes at once would disturb each other.",
		Floor:  &floorCheck{What: "warm mTLS and exec, beside the resting serf agents", Unit: "ms"},
	}
	m, err := startSerf(ctx, filepath.Join(b.dir, "serfquery"), "127.77.8", rivalNodes, startPause)
	if err != nil {
		return err
	}
	defer m.close()
	var who []observer
	for _, a := range m.agents {
		who = append(who, observer{name: a.name, living: a.living})
	}
	if _, _, _, err := allKnow(ctx, time.Now(), who, sees(rivalNodes)); err != nil {
		return fmt.Errorf("serf: %w", err)
	}
	if err := pause(ctx, settled); err != nil {
		return err
	}
	if t.Floor.Before, err = floors.fans(rivalNodes, 15, false); err != nil {
		return err
	}
	var took []float64
	incomplete := 0
	for len(took)+incomplete < b.times(9, 3) {
		rpc, err := dialSerf(m.agents[rivalNodes/2].address + ":7373")
		if err != nil {
			return err
		}
		d, err := rpc.query(rivalNodes)
		rpc.conn.Close()
		switch {
		case errors.Is(err, errQueryIncomplete):
			incomplete++
		case err != nil:
			return err
		default:
			took = append(took, milliseconds(d))
		}
		if err := pause(ctx, rest); err != nil {
			return err
		}
	}
	if t.Floor.After, err = floors.fans(rivalNodes, 15, false); err != nil {
		return err
	}
	t.add("warm floor", "ms", t.Floor.both())
	t.add("fleetmesh", "ms", ours)
	t.add("serf query", "ms", took).times(ours, "fleetmesh").atLeast(2)
	if incomplete > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("%d further queries ended without all answers.", incomplete))
	}
	b.finish(t)
	return nil
}

const sshdPath = "/usr/sbin/sshd"

func hasSSHD() bool {
	_, err := os.Stat(sshdPath)
	return err == nil
}

// rivalAccount is made for the time of the measurement: start-up files of a shell
// would be measured too.
const rivalAccount = "fmbench"

// openSSHRivals starts one sshd for n addresses and returns those of clush and
// ansible that are installed.
func openSSHRivals(ctx context.Context, b *bench, subnet string, n int) (_ []*contender, closeAll func(), err error) {
	if os.Geteuid() != 0 || !hasSSHD() || !installed("ssh", "ssh-keygen", "useradd") {
		return nil, func() {}, nil
	}
	var closers []func()
	closeAll = func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	dir := filepath.Join(b.dir, "ssh")
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, nil, err
	}
	if err := os.Chmod(b.dir, 0o711); err != nil { // the account passes through
		return nil, nil, err
	}
	if _, err := user.Lookup(rivalAccount); err != nil {
		if err := quietly(ctx, "useradd", "--system", "--shell", "/bin/sh", "--home-dir", home, "--no-create-home", rivalAccount); err != nil {
			return nil, nil, err
		}
	}
	closers = append(closers, func() { _ = quietly(context.Background(), "userdel", rivalAccount) })
	for _, key := range []string{"host", "user"} {
		if err := quietly(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)); err != nil {
			return nil, nil, err
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		return nil, nil, err
	}
	const port = "7922"
	server := strings.Join([]string{
		"Port " + port, "ListenAddress 0.0.0.0", "HostKey " + dir + "/host", "AuthorizedKeysFile " + dir + "/user.pub", "PidFile none",
		"UsePAM no", "UseDNS no", "StrictModes no", "PasswordAuthentication no", "MaxStartups 1000", "LogLevel ERROR", "Subsystem sftp internal-sftp", "",
	}, "\n")
	client := strings.Join([]string{
		"Port " + port, "User " + rivalAccount, "IdentityFile " + dir + "/user", "IdentitiesOnly yes", "StrictHostKeyChecking no", "UserKnownHostsFile /dev/null",
		"KexAlgorithms curve25519-sha256", "BatchMode yes", "LogLevel ERROR", "",
	}, "\n")
	var inventory strings.Builder
	for i := range n {
		fmt.Fprintf(&inventory, "%s.%d ansible_python_interpreter=/usr/bin/python3\n", subnet, i+1)
	}
	ansible := strings.Join([]string{
		"[defaults]", "forks = 50", "host_key_checking = False", "gathering = explicit", "local_tmp = " + dir + "/ansible", "remote_tmp = /tmp/.fmbench-ansible",
		"[ssh_connection]", "pipelining = True", "ssh_args = -F " + dir + "/ssh_config -o ControlMaster=auto -o ControlPersist=10m", "control_path_dir = " + dir + "/cp", "control_path = %(directory)s/%%h", "",
	}, "\n")
	for name, text := range map[string]string{"sshd_config": server, "ssh_config": client, "inventory": inventory.String(), "ansible.cfg": ansible} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, nil, err
		}
	}
	sshd := exec.Command(sshdPath, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	sshd.Stderr = os.Stderr
	sshd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := sshd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start sshd: %w", err)
	}
	closers = append(closers, func() { _ = sshd.Process.Kill(); _ = sshd.Wait() })
	config := filepath.Join(dir, "ssh_config")
	if err := await(ctx, "sshd", func() error { return quietly(ctx, "ssh", "-F", config, subnet+".1", "true") }); err != nil {
		return nil, nil, err
	}

	var rivals []*contender
	timed := func(name string, env []string, args ...string) *contender {
		return &contender{name: name, rest: time.Second, run: func(ctx context.Context) (time.Duration, error) {
			began := time.Now()
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Env = append(os.Environ(), env...)
			if out, err := cmd.CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%w: %.400s", err, out)
			}
			return time.Since(began), nil
		}}
	}
	if installed("clush") {
		rivals = append(rivals, timed("clush", nil, "clush", "-q", "-f", "64", "-w", fmt.Sprintf("%s.[1-%d]", subnet, n), "-o", "-F "+config, floorCommand))
	}
	if installed("ansible") {
		env := []string{"ANSIBLE_CONFIG=" + filepath.Join(dir, "ansible.cfg"), "HOME=" + home}
		inventory := filepath.Join(dir, "inventory")
		rivals = append(rivals,
			timed("ansible -m raw", env, "ansible", "-i", inventory, "all", "-m", "raw", "-a", floorCommand),
			timed("ansible -m shell", env, "ansible", "-i", inventory, "all", "-m", "shell", "-a", floorCommand))
		closers = append(closers, func() { endControlMasters(config, filepath.Join(dir, "cp")) })
	}
	return rivals, closeAll, nil
}

// endControlMasters ends the connections that ansible has kept.
func endControlMasters(config, dir string) {
	sockets, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, socket := range sockets {
		_ = quietly(context.Background(), "ssh", "-F", config, "-o", "ControlPath="+socket, "-O", "exit", "any")
	}
}

// quietly runs a program; its output is part of the error.
func quietly(ctx context.Context, program string, args ...string) error {
	if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.400s", program, err, out)
	}
	return nil
}
