package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// completionShell is a shell that has completions, and the name of the file that `make install` installs.
type completionShell struct {
	name, file string
	generate   func(root *cobra.Command, w io.Writer) error
}

func completionShells() []completionShell {
	return []completionShell{
		{"bash", "slirpctl.bash", func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
		{"zsh", "_slirpctl", (*cobra.Command).GenZshCompletion},
		{"fish", "slirpctl.fish", func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }},
		{"powershell", "slirpctl.ps1", (*cobra.Command).GenPowerShellCompletionWithDesc},
	}
}

func newCompletionCmd(a *app) *cobra.Command {
	var names []string
	for _, s := range completionShells() {
		names = append(names, s.name)
	}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completions for a shell",
		Long: `Print the completions for a shell. "make install" and the packages install them
for every shell; otherwise load them from the shell's start-up file.`,
		Example: `  source <(slirpctl completion bash)
  slirpctl completion zsh > "${fpath[1]}/_slirpctl"
  slirpctl completion fish > ~/.config/fish/completions/slirpctl.fish
  slirpctl completion powershell | Out-String | Invoke-Expression`,
		Args:      takes("SHELL"),
		ValidArgs: names,
		// No configuration is loaded, so that a mistake in it is no error here.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, s := range completionShells() {
				if s.name == args[0] {
					return s.generate(cmd.Root(), a.out)
				}
			}
			return wrongUsage(fmt.Sprintf("no completions for %q", args[0]), didYouMean(args[0], names, "the shells are "))
		},
	}
}
