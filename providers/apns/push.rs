//! Push types: which tokens they go to, what their topic ends with, how much they carry.
//!
//! Source: "Sending notification requests to APNs", table of `apns-push-type`, read 2026-11-20.

/// The vendor's own classification of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PushType {
    Alert,
    Background,
    Voip,
    Location,
    LiveActivity,
    Complication,
    FileProvider,
    Mdm,
    PushToTalk,
    Widgets,
    Controls,
}

/// The kind of an app's ordinary token, for notifications and silent data.
pub(super) const DEVICE: &str = "device";

/// Kinds of token: the ordinary one, and one for each push type that has tokens of its own.
pub(super) const KINDS: [&str; 10] = [
    DEVICE,
    "voip",
    "location",
    "liveactivity",
    "complication",
    "fileprovider",
    "mdm",
    "pushtotalk",
    "widgets",
    "controls",
];

/// Tokens that are for one thing: a message reaches them only where it names the channel.
pub(super) const SPECIAL: &[&str] = KINDS.split_at(1).1;

impl PushType {
    const ALL: [Self; 11] = [
        Self::Alert,
        Self::Background,
        Self::Voip,
        Self::Location,
        Self::LiveActivity,
        Self::Complication,
        Self::FileProvider,
        Self::Mdm,
        Self::PushToTalk,
        Self::Widgets,
        Self::Controls,
    ];

    /// What a token of this kind gets, unless the message says otherwise.
    pub(super) fn of(kind: &str, shown: bool) -> Self {
        match Self::named(kind) {
            Some(own) => own,
            None if shown => Self::Alert,
            None => Self::Background,
        }
    }

    /// By the vendor's name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|push_type| push_type.name() == name)
    }

    /// The vendor's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Background => "background",
            Self::Voip => "voip",
            Self::Location => "location",
            Self::LiveActivity => "liveactivity",
            Self::Complication => "complication",
            Self::FileProvider => "fileprovider",
            Self::Mdm => "mdm",
            Self::PushToTalk => "pushtotalk",
            Self::Widgets => "widgets",
            Self::Controls => "controls",
        }
    }

    /// What follows the bundle id in the topic.
    pub(super) fn topic_suffix(self) -> &'static str {
        match self {
            Self::Alert | Self::Background | Self::Mdm => "",
            Self::Voip => ".voip",
            Self::Location => ".location-query",
            Self::LiveActivity => ".push-type.liveactivity",
            Self::Complication => ".complication",
            Self::FileProvider => ".pushkit.fileprovider",
            Self::PushToTalk => ".voip-ptt",
            Self::Widgets => ".push-type.widgets",
            Self::Controls => ".push-type.controls",
        }
    }

    /// The largest payload.
    pub(super) fn max_bytes(self) -> usize {
        if self == Self::Voip { 5120 } else { 4096 }
    }

    /// Whether something is shown by the system, so that a notification's texts have a place.
    pub(super) fn shows(self) -> bool {
        matches!(self, Self::Alert | Self::LiveActivity)
    }

    /// Whether the vendor takes it only with a token, not with a certificate.
    pub(super) fn needs_token(self) -> bool {
        matches!(self, Self::Location | Self::LiveActivity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_but_the_ordinary_one_is_a_push_type() {
        for kind in KINDS {
            assert_eq!(PushType::named(kind).is_none(), kind == DEVICE, "{kind}");
        }
        assert_eq!(
            (PushType::of(DEVICE, true), PushType::of(DEVICE, false)),
            (PushType::Alert, PushType::Background)
        );
        assert_eq!(PushType::of("voip", false), PushType::Voip);
        assert!(SPECIAL.contains(&"voip") && !SPECIAL.contains(&DEVICE) && SPECIAL.len() == KINDS.len() - 1);
    }
}
