pub struct X;
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {}
pub async fn run(_: ApplyArgs, _: &crate::ui::Ui) -> crate::error::Result<std::process::ExitCode> {
    todo!()
}
