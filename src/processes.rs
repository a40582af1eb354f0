//! Child processes and the environment they inherit.

use std::process::Command;

/// Environment variables with access tokens for model hubs, under current and former names.
const TOKENS: [&str; 3] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN"];

/// Removes hub tokens from the environment of a child process, which does not need them.
pub(crate) fn withhold_tokens(command: &mut Command) {
    for name in TOKENS {
        command.env_remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_removed_and_the_rest_is_inherited() {
        let mut command = Command::new("x");
        command.env("MINE", "1");
        withhold_tokens(&mut command);
        let removed: Vec<_> =
            command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert_eq!(removed.len(), TOKENS.len());
        assert!(
            removed.contains(&"HF_TOKEN".as_ref())
                && command.get_envs().any(|(name, _)| name == "MINE")
        );
    }
}
