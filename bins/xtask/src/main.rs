//! Repository chores: `cargo xtask <subcommand>`.

mod gen_schema;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((name, rest)) if name == "gen-schema" => gen_schema::run(rest),
        _ => anyhow::bail!("usage: xtask gen-schema UPSTREAM_DIR [OUT_FILE]"),
    }
}
