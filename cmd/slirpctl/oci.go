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

// readState reads the OCI state that --oci-state names; "-" is standard input.
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

// loadContainer merges the configuration again, with the container's annotations. A hook that did
// not detach would keep the container from starting, so it does unless told otherwise.
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

// aimAtContainer makes req's target the container, and keeps nothing of the directory that the
// runtime happens to be in: the bundle, which may be unmounted while the instance lives.
func aimAtContainer(req *supervisor.Request, st *specs.State) error {
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

// waitForOld waits for the end of an instance of that name whose container is dead: a container
// that is started again at once may be quicker than the network of the one before.
func waitForOld(ctx context.Context, dir, name string, timeout time.Duration) error {
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
		return nil // none, or one in whose way nobody may stand
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := control.Down(ctx, base, name); err != nil && !errors.Is(err, instance.ErrNotFound) {
		return err
	}
	return nil
}

// downContainer ends the instance of a container that has ended, or is to be cut off. That
// there is none is what a poststop hook hopes for. An instance that belongs to another container with
// the same id, of another runtime say, is left alone: a runtime calls poststop hooks also for
// a container that could not be started because the name was taken.
func downContainer(ctx context.Context, a *app, st *specs.State) error {
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
	if e.State != nil && othersInstance(e.State, st) {
		a.log.Warnf("instance %s belongs to process %d, which is not of this container: left alone", name, e.State.Target.PID)
		return nil
	}
	err = control.Down(ctx, base, name)
	if errors.Is(err, instance.ErrNotFound) {
		return nil
	}
	return err
}

// othersInstance reports whether a running instance is that of a container other than st's. A
// stopped container has no pid any more; then the bundle tells.
func othersInstance(inst *instance.State, st *specs.State) bool {
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
