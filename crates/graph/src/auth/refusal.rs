//! Why a room does not allow an event: one variant per rule, with the numbers that decided.

use ruma_common::{OwnedEventId, OwnedServerName, OwnedUserId};

use crate::power_levels::Level;

/// The rule that an event breaks. The sentences are fit for the person who tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    // -- m.room.create
    /// A create event that follows others.
    #[error("a create event comes first and follows no other")]
    CreateHasPrevEvents,
    /// A room id of another server than the sender's.
    #[error("the room id does not belong to the server of the sender")]
    CreateRoomIdOfOtherServer,
    /// `room_version` is not one that we know.
    #[error("the room version is not known")]
    CreateVersionUnknown,
    /// `creator` is missing where the room version wants it.
    #[error("the create event names no creator")]
    CreateWithoutCreator,
    /// `additional_creators` is not a list of user ids.
    #[error("`additional_creators` is not a list of user ids")]
    CreateAdditionalCreators,

    // -- the event's room and auth_events
    /// The state has no create event.
    #[error("the room has no create event")]
    NoCreateEvent,
    /// The room is not the one that the create event makes.
    #[error("the room is not the one that its create event made")]
    RoomNotOfCreate,
    /// Two auth events of the same type and state key.
    #[error("auth events name `{kind}` with the state key `{state_key}` twice")]
    AuthEventTwice {
        /// Their type.
        kind: String,
        /// Their state key.
        state_key: String,
    },
    /// An auth event that cannot allow anything like this.
    #[error("auth events name `{kind}` with the state key `{state_key}`, which does not belong there")]
    AuthEventUnwanted {
        /// Its type.
        kind: String,
        /// Its state key.
        state_key: String,
    },
    /// An auth event that was rejected itself.
    #[error("the auth event {0} was rejected")]
    AuthEventRejected(OwnedEventId),
    /// The create event is not among the auth events.
    #[error("the create event is not among the auth events")]
    AuthEventsWithoutCreate,
    /// An auth event of another room.
    #[error("the auth event {0} is of another room")]
    AuthEventOfOtherRoom(OwnedEventId),

    // -- beyond the rules
    /// The policy server that the room names has not signed it.
    #[error("the policy server {0} of this room does not recommend it")]
    NotRecommended(OwnedServerName),

    // -- any event
    /// The room is for people of one server only.
    #[error("this room is for people of {home} only")]
    NotFederated {
        /// That server.
        home: OwnedServerName,
    },
    /// Aliases without a state key.
    #[error("aliases need a state key")]
    AliasesWithoutStateKey,
    /// Aliases of another server.
    #[error("aliases of another server cannot be set")]
    AliasesOfOtherServer,
    /// Only members may send.
    #[error("only members of the room may do this")]
    SenderNotJoined,
    /// The sender's level is too low for this type of event.
    #[error("`{kind}` needs level {needed}, you have {has}")]
    EventLevel {
        /// The type.
        kind: String,
        /// What it takes.
        needed: i64,
        /// What the sender has.
        has: Level,
    },
    /// A state key that is another user's id.
    #[error("a state key that is a user id is for that user only")]
    StateOfOtherUser,
    /// The sender's level is too low to redact what others sent.
    #[error("redacting needs level {needed}, you have {has}")]
    RedactLevel {
        /// What it takes.
        needed: i64,
        /// What the sender has.
        has: Level,
    },

    // -- m.room.member
    /// No state key, or not a user's id.
    #[error("a member event needs a user id as its state key")]
    MemberWithoutTarget,
    /// No membership.
    #[error("a member event needs a membership")]
    MemberWithoutMembership,
    /// A membership that this room version does not know.
    #[error("the membership `{0}` is not known")]
    MembershipUnknown(String),
    /// Joining is for oneself.
    #[error("nobody can join for somebody else")]
    JoinForOther,
    /// The sender is banned.
    #[error("you are banned from this room")]
    JoinWhileBanned,
    /// The room is for invited people.
    #[error("this room is for invited people")]
    JoinWithoutInvite,
    /// The room is for members of other rooms, and nobody vouched.
    #[error("this room needs an invite, or membership in a room that it names")]
    JoinWithoutVoucher,
    /// Whoever vouched for a restricted join is not in the room.
    #[error("{0}, who vouched for the join, is not in the room")]
    VoucherNotJoined(OwnedUserId),
    /// Whoever vouched for a restricted join may not invite.
    #[error("{voucher}, who vouched for the join, has level {has}, inviting needs {needed}")]
    VoucherLevel {
        /// Who vouched.
        voucher: OwnedUserId,
        /// What inviting takes.
        needed: i64,
        /// What the voucher has.
        has: Level,
    },
    /// Join rules that let nobody in.
    #[error("the room's join rule `{0}` lets nobody in")]
    JoinRule(String),
    /// The target of an invite is banned.
    #[error("{0} is banned from the room")]
    InviteOfBanned(OwnedUserId),
    /// The target of an invite is in the room.
    #[error("{0} is in the room already")]
    InviteOfJoined(OwnedUserId),
    /// The sender's level is too low to invite.
    #[error("inviting needs level {needed}, you have {has}")]
    InviteLevel {
        /// What it takes.
        needed: i64,
        /// What the sender has.
        has: Level,
    },
    /// A third-party invite without what was signed.
    #[error("the third-party invite is not signed")]
    ThirdPartyInviteUnsigned,
    /// What was signed of a third-party invite lacks `mxid` or `token`.
    #[error("the third-party invite names no user or no token")]
    ThirdPartyInviteIncomplete,
    /// A third-party invite of somebody else.
    #[error("the third-party invite is for somebody else")]
    ThirdPartyInviteOfOther,
    /// No such third-party invite in the room.
    #[error("the room has no such third-party invite")]
    ThirdPartyInviteUnknown,
    /// A third-party invite that somebody else made.
    #[error("the third-party invite was made by somebody else")]
    ThirdPartyInviteBySomebodyElse,
    /// No key of the third-party invite signed it.
    #[error("the signature of the third-party invite is wrong")]
    ThirdPartyInviteForged,
    /// Leaving where one is not.
    #[error("you are not in this room")]
    LeaveWithoutMembership,
    /// The sender's level is too low to lift a ban.
    #[error("lifting a ban needs level {needed}, you have {has}")]
    UnbanLevel {
        /// What it takes.
        needed: i64,
        /// What the sender has.
        has: Level,
    },
    /// The sender's level is too low to kick.
    #[error("kicking needs level {needed}, you have {has}")]
    KickLevel {
        /// What it takes.
        needed: i64,
        /// What the sender has.
        has: Level,
    },
    /// The target of a kick is not below the sender.
    #[error("you have level {has}, not more than the {target} of whom you want to kick")]
    KickOfEqual {
        /// The target's level.
        target: Level,
        /// What the sender has.
        has: Level,
    },
    /// The sender's level is too low to ban.
    #[error("banning needs level {needed}, you have {has}")]
    BanLevel {
        /// What it takes.
        needed: i64,
        /// What the sender has.
        has: Level,
    },
    /// The target of a ban is not below the sender.
    #[error("you have level {has}, not more than the {target} of whom you want to ban")]
    BanOfEqual {
        /// The target's level.
        target: Level,
        /// What the sender has.
        has: Level,
    },
    /// The room does not take knocks.
    #[error("this room does not take knocks")]
    KnockJoinRule,
    /// Knocking is for oneself.
    #[error("nobody can knock for somebody else")]
    KnockForOther,
    /// Knocking by somebody who is banned.
    #[error("you are banned from this room")]
    KnockWhileBanned,
    /// Knocking by somebody who is in the room or was asked in.
    #[error("you are in the room already, or were invited")]
    KnockWhileMember,

    // -- m.room.power_levels
    /// A field that is not a number.
    #[error("`{0}` is not an integer")]
    PowerLevelsNumber(&'static str),
    /// A field that is not an object of numbers.
    #[error("`{0}` is not an object of integers")]
    PowerLevelsMap(&'static str),
    /// `users` is not an object of numbers under user ids.
    #[error("`users` is not an object of integers under user ids")]
    PowerLevelsUsers,
    /// A creator, who is above all numbers, among the users.
    #[error("{0} created the room: creators cannot have a number")]
    PowerLevelsOfCreator(OwnedUserId),
    /// The current value is out of reach.
    #[error("`{field}` is {current}, beyond your level {has}, and cannot be changed")]
    PowerLevelsCurrent {
        /// Its name.
        field: String,
        /// Its value.
        current: i64,
        /// What the sender has.
        has: Level,
    },
    /// The new value is out of reach.
    #[error("`{field}` cannot become {new}, beyond your level {has}")]
    PowerLevelsNew {
        /// Its name.
        field: String,
        /// What it would become.
        new: i64,
        /// What the sender has.
        has: Level,
    },
    /// The level of somebody who is not below the sender.
    #[error("the level {current} of {user} is not below yours, {has}, and cannot be changed")]
    PowerLevelsOfEqual {
        /// Whose.
        user: String,
        /// Their level.
        current: i64,
        /// What the sender has.
        has: Level,
    },
}
