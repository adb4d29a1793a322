//! Flags of Hubble's command line that ask for what is not done here. Each is known, so
//! that it is refused with what to do instead and not as a slip of the pen.

use std::path::PathBuf;

/// None of them is shown in the help.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HubbleArgs {
    #[arg(long, value_name = "FILE", hide = true)]
    config: Option<PathBuf>,

    #[arg(short = 'P', long, hide = true)]
    port_forward: bool,

    #[arg(long, value_name = "PORT", hide = true)]
    port_forward_port: Option<u16>,

    #[arg(long, value_name = "FILE", hide = true)]
    kubeconfig: Option<PathBuf>,

    #[arg(long, value_name = "NAME", hide = true)]
    kube_context: Option<String>,

    #[arg(long, value_name = "NAME", hide = true)]
    kube_namespace: Option<String>,

    #[arg(long, hide = true)]
    tls_allow_insecure: bool,
}

const FORWARD: &str = "no port is forwarded from here: run `kubectl --namespace kube-system \
                       port-forward service/hubble-relay 4245:443` beside this, and give \
                       --server tls://localhost:4245 with --tls-ca-cert-files and --tls-server-name";

impl HubbleArgs {
    /// What to do instead of the first that was given.
    pub fn check(&self) -> Result<(), String> {
        let Self {
            config,
            port_forward,
            port_forward_port,
            kubeconfig,
            kube_context,
            kube_namespace,
            tls_allow_insecure,
        } = self;
        let given = [
            (
                config.is_some(),
                "config",
                "no file of settings is read: give what is in it as flags (--server, --tls, ...)",
            ),
            (*port_forward, "port-forward", FORWARD),
            (port_forward_port.is_some(), "port-forward-port", FORWARD),
            (kubeconfig.is_some(), "kubeconfig", FORWARD),
            (kube_context.is_some(), "kube-context", FORWARD),
            (kube_namespace.is_some(), "kube-namespace", FORWARD),
            (
                *tls_allow_insecure,
                "tls-allow-insecure",
                "a server whose certificate is not checked may be anybody: give --tls-ca-cert-files \
                 with the roots of its certificate, and --tls-server-name where its name differs",
            ),
        ];
        match given.into_iter().find(|(is_given, ..)| *is_given) {
            Some((_, flag, instead)) => Err(format!("--{flag}: {instead}")),
            None => Ok(()),
        }
    }
}
