package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/oci"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/supervisor"
	"github.com/slirpctl/slirpctl/internal/target"
)

// readState reads the OCI state from the file given by --oci-state; "-" is standard input.
func (a *app) readState(file string) (*specs.State, error) {
	if file == "-" {
		return oci.ReadState(a.in)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, wrongUsage("--oci-state: "+err.Error(), "runc state ID prints the state of a container")
	}
	defer f.Close()
	return oci.ReadState(f)
}

// loadContainer loads the configuration again, with the container's annotations. Detaching is the default: a
// hook in the foreground would keep the container from starting.
func (a *app) loadContainer(cmd *cobra.Command, st *specs.State) error {
	src := a.sources
	src.Annotations = st.Annotations
	cfg, err := options.Load(cmd.Flags(), src)
	if err != nil {
		return err
	}
	if !cfg.IsSet("detach") {
		cfg.Detach = true
	}
	a.cfg = cfg
	return nil
}

// setContainer makes the container the target of req. It also makes the paths in req absolute: the working
// directory is the bundle, which may be unmounted while the instance lives.
func setContainer(req *supervisor.Request, st *specs.State) error {
	name, err := oci.InstanceName(st.ID)
	if err != nil {
		return err
	}
	if st.Pid == 0 {
		return fault.Errorf(0, "create it first, or call slirpctl in a createRuntime hook", "container %s %w", st.ID, oci.ErrNoProcess)
	}
	if target.IsOwnNetns(st.Pid) {
		return fault.Errorf(0, "give the container a network namespace: slirpctl hook --bundle DIR adds one",
			"the network namespace of container %s %w", st.ID, target.ErrOwnNetns)
	}
	req.PID, req.DefaultName = st.Pid, name
	req.Container = &instance.Container{ID: st.ID, Bundle: st.Bundle}
	for _, path := range []*string{&req.Base, &req.Options.PIDFile, &req.Options.Slirp4netnsPath} {
		if !strings.Contains(*path, "/") {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return nil
}

// waitForPrevious waits for the end of an instance of that name whose container is dead: a container that is
// restarted at once may start before its previous instance has ended.
func waitForPrevious(ctx context.Context, dir, name string, timeout time.Duration) error {
	if options.CheckName(name) != nil {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
		return nil
	}
	base, err := instance.OpenBase(dir)
	if err != nil {
		return err
	}
	e, err := base.Find(ctx, name)
	if err != nil || e.State == nil || e.State.Target.PID == 0 || instance.Identify("", e.State.Target.PID).Alive() {
		return nil // no instance, or its container is alive
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := control.Down(ctx, base, name, control.DownOptions{Grace: control.DefaultGrace}); err != nil && !errors.Is(err, instance.ErrNotFound) {
		return err
	}
	return nil
}

// downContainer stops the instance of a container; no error if it doesn't exist. It does not stop an instance of
// another container with the same id, for example of another runtime: runtimes call poststop hooks also for a
// container that could not be started because the name was in use.
func downContainer(ctx context.Context, a *app, st *specs.State, o control.DownOptions) error {
	name, err := oci.InstanceName(st.ID)
	if err != nil {
		return err
	}
	if a.cfg.Name != "" {
		name = a.cfg.Name
	}
	if _, err := os.Lstat(a.stateDir()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	base, err := a.openBase()
	if err != nil {
		return err
	}
	e, err := base.Find(ctx, name)
	if errors.Is(err, instance.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.State != nil && ofOtherContainer(e.State, st) {
		a.log.Warnf("instance %s not stopped: it belongs to process %d, which is not of this container", name, e.State.Target.PID)
		return nil
	}
	err = control.Down(ctx, base, name, o)
	if errors.Is(err, instance.ErrNotFound) {
		return nil
	}
	return err
}

// ofOtherContainer reports whether inst is running and belongs to a container other than st's. A stopped
// container has no PID; then the bundles are compared.
func ofOtherContainer(inst *instance.State, st *specs.State) bool {
	switch {
	case !instance.Identify("", inst.Target.PID).Alive():
		return false
	case st.Pid != 0:
		return inst.Target.PID != st.Pid
	case inst.Container == nil:
		return true
	}
	return st.Bundle != "" && inst.Container.Bundle != st.Bundle
}
