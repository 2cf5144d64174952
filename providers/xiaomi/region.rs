//! The vendor's regions: a token works at the service of its phone's region only (dev.mi.com pId=1696, 2023-04).

/// A region and its service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Region {
    #[default]
    China,
    Russia,
    India,
    /// The European Economic Area and the United Kingdom.
    Europe,
    /// Everywhere else.
    Global,
}

impl Region {
    pub(super) const ALL: [Self; 5] = [Self::China, Self::Russia, Self::India, Self::Europe, Self::Global];

    /// As it stands in an address's `region`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::China => "cn",
            Self::Russia => "ru",
            Self::India => "in",
            Self::Europe => "eu",
            Self::Global => "global",
        }
    }

    pub(super) fn base_url(self) -> &'static str {
        match self {
            Self::China => "https://api.xmpush.xiaomi.com",
            Self::Russia => "https://ru-api.xmpush.global.xiaomi.com",
            Self::India => "https://idmb-api.xmpush.global.xiaomi.com",
            Self::Europe => "https://fr-api.xmpush.global.xiaomi.com",
            Self::Global => "https://sgp-api.xmpush.global.xiaomi.com",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|region| region.name() == name)
    }

    /// All names, for a mistake's words.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}
