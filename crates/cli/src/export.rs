//! Flags of `signet agent` about where flows are kept.

use std::path::PathBuf;
use std::time::Duration;

use api::export::{Collector, Rotation, Selection, Settings, TlsFiles};
use api::proto::flow::FlowFilter;

use crate::observe::time::duration_ns;

/// Where flows go, and which.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Export")]
pub struct ExportArgs {
    /// Append flows to this file, one JSON object a line
    #[arg(long, value_name = "PATH")]
    export_file: Option<PathBuf>,

    /// Begin a new file after so many megabytes
    #[arg(long, value_name = "MB", default_value_t = 10)]
    export_file_max_size_mb: u64,

    /// Keep so many earlier files
    #[arg(long, value_name = "N", default_value_t = 5)]
    export_file_max_backups: u32,

    /// Compress earlier files with gzip
    #[arg(long)]
    export_file_compress: bool,

    /// Send flows as logs, and metrics, to an OpenTelemetry collector: on this host
    /// grpc://127.0.0.1:4317 or http://127.0.0.1:4318, elsewhere grpcs://HOST:PORT or
    /// https://HOST:PORT
    #[arg(long, value_name = "COLLECTOR")]
    export_otlp: Option<Collector>,

    /// Roots of the collector's certificate, in PEM
    #[arg(long, value_name = "FILE", value_delimiter = ',', requires = "export_otlp")]
    export_otlp_ca_files: Vec<PathBuf>,

    /// Our certificate, in PEM, for a collector that asks for one
    #[arg(long, value_name = "FILE", requires = "export_otlp_key_file")]
    export_otlp_cert_file: Option<PathBuf>,

    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "export_otlp_cert_file")]
    export_otlp_key_file: Option<PathBuf>,

    /// How often the collector gets metrics
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    export_otlp_interval: Duration,

    /// Export only flows that match one of these filters, as JSON
    #[arg(long, value_name = "JSON", value_parser = filter)]
    export_allowlist: Vec<FlowFilter>,

    /// Export no flow that matches one of these filters, as JSON
    #[arg(long, value_name = "JSON", value_parser = filter)]
    export_denylist: Vec<FlowFilter>,

    /// Export only these fields: time,source.pod_name,...
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    export_field_mask: Vec<String>,

    /// Export flows that are equal in these fields as one, with their number
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    export_aggregate: Vec<String>,

    /// How long such flows are collected
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    export_aggregation_interval: Duration,
}

/// Longer than nothing: a timer of nothing would never rest.
fn duration(text: &str) -> Result<Duration, String> {
    match duration_ns(text) {
        Some(ns) if ns > 0 => Ok(Duration::from_nanos(ns)),
        _ => Err("give a duration: 10s, 1m".to_owned()),
    }
}

fn filter(text: &str) -> Result<FlowFilter, String> {
    api::json::from_json_strictly(text).map_err(|error| error.to_string())
}

impl ExportArgs {
    /// What the flags mean.
    pub fn settings(self) -> Settings {
        // No `..`: a new flag does not compile until it is handled here.
        let Self {
            export_file,
            export_file_max_size_mb,
            export_file_max_backups,
            export_file_compress,
            export_otlp,
            export_otlp_ca_files,
            export_otlp_cert_file,
            export_otlp_key_file,
            export_otlp_interval,
            export_allowlist,
            export_denylist,
            export_field_mask,
            export_aggregate,
            export_aggregation_interval,
        } = self;
        let rotation = Rotation {
            bytes: export_file_max_size_mb.saturating_mul(1 << 20),
            backups: export_file_max_backups,
            compress: export_file_compress,
        };
        let files = TlsFiles {
            roots: export_otlp_ca_files,
            identity: export_otlp_cert_file.zip(export_otlp_key_file),
        };
        if export_file.is_none() && export_otlp.is_none() {
            return Settings::default();
        }
        Settings {
            file: export_file.map(|file| (file, rotation)),
            collector: export_otlp
                .map(|collector| (collector.with_files(files), export_otlp_interval)),
            selection: Selection {
                allow: export_allowlist,
                deny: export_denylist,
                fields: export_field_mask,
                aggregate: export_aggregate,
                interval: export_aggregation_interval,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        export: ExportArgs,
    }

    fn parse(line: &str) -> Result<Settings, String> {
        let words = std::iter::once("agent").chain(line.split_whitespace());
        <Line as clap::Parser>::try_parse_from(words)
            .map(|line| line.export.settings())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_exported_unless_asked_for() {
        assert_eq!(parse(""), Ok(Settings::default()));
    }

    #[test]
    fn flags_become_settings() {
        let settings = parse(
            r#"--export-file /var/log/flows --export-file-max-size-mb 1 --export-file-compress --export-allowlist {"uuid":["a"]} --export-aggregate verdict,source.pod_name"#,
        )
        .unwrap();
        let rotation = Rotation { bytes: 1 << 20, backups: 5, compress: true };
        assert_eq!(settings.file, Some(("/var/log/flows".into(), rotation)));
        assert_eq!(settings.selection.allow[0].uuid, ["a"]);
        assert_eq!(settings.selection.aggregate, ["verdict", "source.pod_name"]);
        assert_eq!(settings.selection.check(), Ok(()));
    }

    #[test]
    fn what_would_send_flows_abroad_in_the_clear_is_refused() {
        let error = parse("--export-otlp grpc://10.0.0.1:4317").unwrap_err();
        assert!(error.contains("flows leave a host only encrypted"), "{error}");
        assert!(parse("--export-otlp grpc://127.0.0.1:4317").is_ok());
        assert!(parse("--export-otlp-interval 0s").is_err());
    }
}
