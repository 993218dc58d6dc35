"""The word lists of `english`, chosen by reading errors on captions (docs/tagging.md)."""

OTHER_THINGS = tuple(
    phrase.strip()
    for phrase in """
    apple computer, apple laptop, apple logo, apple store, at bat, baby bed, baby blue, baby bottle, baby carriage,
    baby carrier, baby crib, baby doll, baby food, baby grand, baby pink, baby pool, baby powder, baby shower,
    baby stroller, back seat, ball cap, ball court, ball field, ball game, ball gown, ball park, ball pen, ball pit,
    ball player, ball room, banana boat, batter in a bowl, batter up, bear claw, bear market, bear rug, bear skin,
    bed of a pickup, bed of a truck, bed of flowers, bed of grass, bed of greens, bed of hay, bed of leaves,
    bed of lettuce, bed of rice, bed of straw, bed of the pickup, bed of the truck, bed room, bed side, bed spread,
    bench press, bicycle seat, bike seat, bird bath, bird cage, bird feeder, bird house, board game, boat house,
    bow and arrow, bowl cut, bowl game, bull dozer, bull market, bull ring, butterfly catcher, cake batter, car bed,
    car park, car port, car seat, car wash, care bear, cassette player, cat bed, cat fish, cat house, cat nap,
    cat tail, cat walk, cd player, chair lift, chairlift, chicken wire, comic book store, cook book, cook out,
    cook top, couch potato, couple different, couple more, couple of, couple other, cow boy boot, cow boy hat,
    creek bed, crowd control, cup board, cup cake, dog bed, dog bowl, dog fight, dog house, dog wood, doll house,
    dream catcher, driver seat, driver side, drivers seat, drivers side, duck tape, duct tape, dust bowl,
    dvd player, electronic keyboard, fish bowl, flower bed, fork in the road, fork lift, friend request, front seat,
    garden bed, guy wire, hair brush, hen house, horse shoe, hot dog eating contest, house boat trailer,
    jet of water, jet ski, jet skis, jetski, key board, kite board, kite boarder, kite boarding, kite surf,
    kite surfer, kite surfing, knife block, lady bug, lake bed, lift chair, light bulb, man hole, man made,
    media player, mickey mouse, milk pitcher, minnie mouse, mother board, mother nature, mother ship,
    motorcycle seat, mouse pad, mouse trap, mp3 player, music keyboard, music player, musical keyboard, nurse shark,
    orange county, pancake batter, paper airplane, paper boat, paper plane, passenger car, passenger door,
    passenger seat, passenger side, passenger window, pay phone, pet bed, phone book, piano keyboard, pitch fork,
    pitcher of beer, pitcher of juice, pitcher of lemonade, pitcher of milk, pitcher of water, player piano,
    public phone, public telephone, record player, remote area, remote beach, remote control airplane,
    remote control boat, remote control car, remote control helicopter, remote control plane, remote controlled,
    remote island, remote location, remote road, remote village, river bed, rose bowl, sand boarding, scissor lift,
    scissors lift, skate boarding, snow boarding, soldier field, somebody s, someone s, stop light pole, stream bed,
    super bowl, surf boarding, table cloth, table runner, table spoon, table tennis, teddy boy, tie dye, tie dyed,
    toilet bowl, toilet seat, toy plane, train bed, train of a dress, train of her, train of the bride,
    train of the dress, train station, train track, truck bed, tuning fork, wake board, wake boarding, water bed,
    water pitcher, worker bee, zebra crossing
    """.split(",")
)
"""Phrases that contain a concept's word but mean something else. A vocabulary that lists the phrase itself keeps it."""

DETERMINERS = frozenset(
    "a an another any both dozen each eight either every few five four her his its many multiple my neither nine no "
    "numerous one other our seven several six some ten the their these this those three two various your".split()
)

ONE = frozenset("a an another each every one this".split())
"""Determiners of one thing."""

MANY = frozenset("both eight few five four many nine seven several six some ten these those three two".split())
"""Determiners of several things."""

ADJECTIVES = frozenset(
    "adult african aged american antique asian bald bearded beautiful big bigger black blond blonde blue bright brown "
    "caucasian chinese clean closed colorful colourful cute dark dirty elderly empty fancy fat female fluffy full "
    "furry giant glass gold golden gray green grey handsome happy hispanic huge indian japanese large larger leather "
    "light little lone long male metal middle-aged modern muddy multicolored new nice old old-fashioned older open "
    "orange parked pink plastic pretty purple red shaggy shirtless short silver single small smaller smiling spotted "
    "striped tall tan teenage thin tiny vintage wet white wooden yellow yellow-green young".split()
)
"""Adjectives that captions put before things. Some can be nouns themselves."""

BEFORE_NOUNS = DETERMINERS | ADJECTIVES

AFTER_NOUNS = frozenset(
    "a about above across after against along also amid among an appears are aren around as at atop be because been "
    "before behind being below beneath beside besides between but by can could did does during for from had has have "
    "he her here him his in inside into is isn it its just looks may might must near next not of off on onto out "
    "outside over past she should so that the their them then there they through to together toward towards under "
    "underneath upon was were when where which while who whom whose will with within without would".split()
)
"""Words that follow the last noun of a phrase: prepositions, auxiliaries, relative pronouns, the next phrase."""

PREPOSITIONS = frozenset(
    "against at behind beneath beside between by from in into near of on onto through under with without".split()
)
"""Prepositions after which a bare word is a noun ("on *surfboard*"). Not "to" and "like"."""

AFTER_VERBS = frozenset("a an her herself him himself his it its itself the their them themselves".split())
"""Words that follow a verb, and hardly ever a noun."""

COLOURS = frozenset(
    "beige black blue brown gold golden gray green grey orange pink purple red silver tan white yellow".split()
)

SUBJECTS = frozenset("he i she they we who you".split())
"""Pronouns after which a noun form is a verb ("they *train*")."""

AUXILIARIES = frozenset("can cannot could let lets may might must never not please shall should to will would".split())
"""Other words after which a noun form is a verb ("don't *park*")."""

NEXT_TO = frozenset("attached back belonging close due near next nose related similar thanks tied up".split())
"""Words that make "to" a preposition ("next to *bed*")."""

PERSON_NOUNS = frozenset("boy child gentleman girl guy lady man person someone toddler woman".split())
"""Words for a person that hardly ever modify another noun."""

ALWAYS_NOUNS = frozenset("boys children gentlemen girls guys ladies men people persons somebody someone women".split())

KIN = frozenset("adult baby child father female infant male mother parent".split())
"""Words that mean an animal in a sentence about animals ("an elephant and her *baby*")."""

WILD = frozenset(
    "animal bear bird bull calf cattle colt cow cub deer duck duckling elephant ewe foal giraffe goat goose gosling "
    "hippo horse lamb lion mare monkey panda pony rhino seal sheep swan tiger whale zebra".split()
)
"""Animals whose kin they may be. Not dogs and cats, which live with people's babies."""

LIKENESSES = frozenset(
    "cartoon carving carvings drawing drawings figurine figurines mosaic mural painting paintings poster replica "
    "sculpture sculptures shadow shadows sketch statue statues".split()
)
"""Words for likenesses of things ("a statue of a *man*")."""

MADE_OF = frozenset(
    "bronze cardboard carved ceramic concrete fake inflatable lego marble origami paper plastic plush porcelain "
    "rubber stone stuffed toy wooden".split()
)
"""Materials and words that make an animal a likeness ("a rubber *duck*")."""

LIVING = WILD | frozenset("cat dog eagle hen kitten owl ox parrot penguin pig puppy rooster".split())
"""Animals of which likenesses are made."""

NOT_BARE = frozenset("baseball basketball can football might must softball volleyball will".split())
"""Games and auxiliaries: not things unless after a determiner or an adjective ("they play *football*")."""

FRUIT_OR_COLOUR = frozenset("olive orange peach plum".split())

BEFORE_FRUIT = DETERMINERS | frozenset("cut fresh half mandarin navel peeled ripe sliced whole".split())

VERBS = frozenset(
    "appears approaches attempts balances barks bends bites bounces brushes carries catches chases chews climbs "
    "crosses crouches cuts cycles dances digs does drinks drives eats enjoys examines explains faces feeds flies "
    "floats follows gets gives goes grazes guides hangs has hikes hits holds is kicks kisses kneels lands laughs "
    "launches lays leans leaps licks lies listens looks makes maneuvers moves observes peers performs pets poses "
    "pours practices prepares pulls pushes puts reaches reads rests sails shakes shoots sings sits sleeps slurps "
    "smiles sniffs speaks splashes sprays squats squirts stands stares stretches sweeps swerves swims tackles takes "
    "talks throws tosses touches travels tries uses waits was washes watches wears yells".split()
)
"""Verbs in the third person that a pipeline may take for plurals ("a man *sits*") and that hardly ever are nouns."""

VERBS_OR_PLURALS = frozenset(
    "blows cleans cooks covers dives drops ends falls fishes heads jumps lights paints passes pitches plays points "
    "races rides rises rolls rounds rows runs serves sets shops shows skateboards skates skips skis slides snowboards "
    "starts steers stops strikes surfs swings tracks turns walks works".split()
)
"""Verbs that are often nouns after another noun ("the bus *stops* are new")."""

VERB_BASES = frozenset(
    "carry catch chase climb eat feed fly gather graze hold kick lay lean leap lie look perform pose pull push rely "
    "rest share sit sleep smile stand stare swim throw travel wait wear".split()
)
"""Base forms of verbs, after several things. Not those that are often nouns ("a boat *ride*")."""

COMPOUND_HEADS = frozenset(
    "bag bath bed boat booth bowl box bread brush cage cake call cap case cases cider coach coat collar company "
    "competition conductor contest costume costumes court cover crust cutter days depot diamond door doors dough "
    "dress driver engine fair farm feeder festival field fire food frame game games goal handle hat helmet helmets "
    "holder hoop house houses idea industry jacket jersey juice lamp lane leaf leash leaves lid light lights line "
    "lover mark market mat match mix nest net outfit oven owner pad pan pants paper park parlor path peel pie "
    "platform player players pole post practice print race races racing rack ramp ride rides road roll row rule rules "
    "salad sauce saw seat seats setting sheet sheets shelf shelves shirt shirts shop shorts show sign signs skin sky "
    "soup split spread stadium stall stand station stations stop stops store string stripes style suit team terminal "
    "time top tower toy toys track tracks trail trainer treat tree trees trick uniform uniforms vest window windows "
    "wire yard".split()
)
"""Nouns that are often modified by the noun before them ("a bus *stop*")."""

QUALITIES = ADJECTIVES - MADE_OF
"""Adjectives that do not make a thing a likeness."""

BEFORE_PHRASES = AFTER_NOUNS - DETERMINERS
"""Words that end the phrase before a noun phrase."""

AFTER_MOVEMENTS = PREPOSITIONS | frozenset("across along around away back down off out over past to toward up".split())
"""Words that follow a verb of movement ("the dog *runs* along")."""
