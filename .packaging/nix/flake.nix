# nix run 'github:slirpctl/slirpctl?dir=.packaging/nix' -- probe
{
  description = "Network namespaces with a network, without root";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forEach = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEach (pkgs: {
        default = pkgs.buildGoModule rec {
          pname = "slirpctl";
          version = self.shortRev or "dev";
          src = ../..;
          # Of the directory that `go mod vendor` makes. A test compares it.
          vendorHash = "sha256-nxEj+pRmcpMnRFFP5Du3cmfAXGuAPWKu/Sm+OjxaOCE=";
          subPackages = [ "cmd/slirpctl" ];
          env.CGO_ENABLED = 0;
          tags = [ "nethttpomithttp2" ];
          ldflags = [ "-s" "-w" "-X main.version=${version}" "-E github.com/slirpctl/slirpctl/internal/rlimit.entry" ];
          doCheck = false; # the tests make namespaces
          nativeBuildInputs = [ pkgs.installShellFiles pkgs.makeWrapper ];
          postInstall = ''
            installManPage docs/man/*.[1-8]
            installShellCompletion --cmd slirpctl --bash completions/slirpctl.bash \
              --zsh completions/_slirpctl --fish completions/slirpctl.fish
            install -D -m 0644 -t $out/lib/systemd/user docs/examples/systemd/slirpctl@.service
            wrapProgram $out/bin/slirpctl --suffix PATH : ${pkgs.lib.makeBinPath [ pkgs.slirp4netns ]}
          '';
          meta = {
            description = "Network namespaces with a network, without root";
            homepage = "https://github.com/slirpctl/slirpctl";
            license = pkgs.lib.licenses.asl20;
            platforms = systems;
            mainProgram = "slirpctl";
          };
        };
      });
    };
}
