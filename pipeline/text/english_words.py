"""The word lists of `english`, chosen by reading errors on captions (docs/tagging.md)."""

OTHER_THINGS = tuple(
    phrase.strip()
    for phrase in """
    adam s apple, apple computer, apple laptop, apple logo, apple store, at bat, baby bed, baby blue, baby bottle,
    baby carriage, baby carrier, baby crib, baby doll, baby food, baby grand, baby pink, baby pool, baby powder,
    baby s breath, baby s tears, baby shower, baby stroller, back seat, baker s dozen, ball bearing, ball bearings,
    ball cap, ball court, ball field, ball game, ball gown, ball park, ball pen, ball pit, ball player, ball room,
    banana boat, banana republic, banana split, bat cave, bat man, batter in a bowl, batter up, bear claw, bear hug,
    bear market, bear rug, bear skin, bed of a pickup, bed of a truck, bed of flowers, bed of grass, bed of greens,
    bed of hay, bed of leaves, bed of lettuce, bed of rice, bed of straw, bed of the pickup, bed of the truck,
    bed room, bed side, bed spread, bench press, bicycle seat, big apple, big bird, bike seat, bird bath, bird brain,
    bird cage, bird feeder, bird house, bird s eye, birds eye, birds eye view, blood cell, board game, boat house,
    boat neck, bottle neck, bow and arrow, bowl cut, bowl game, brain cell, buffalo bills, buffalo new york,
    buffalo ny, buffalo sabres, buffalo wing, bull dozer, bull market, bull ring, bull run, bull s eye, bulls eye,
    butterfly catcher, cable tie, cake batter, calf injury, calf muscle, calf raise, canary yellow, cancer cell,
    car bed, car park, car port, car seat, car wash, care bear, cash cow, cassette player, cat bed, cat burglar,
    cat eye, cat fish, cat house, cat nap, cat s cradle, cat s eye, cat s eyes, cat s meow, cat s pajamas, cat scan,
    cat tail, cat walk, cd player, cell biology, cell block, cell culture, cell division, cell membrane, cell sample,
    cell tower, cell wall, chair lift, chair of the board, chair of the committee, chair of the department, chairlift,
    charity ball, chef s special, chicken wire, clothes horse, comic book store, committee chair, cook book, cook out,
    cook top, cotton ball, couch potato, couple different, couple more, couple of, couple other, cow boy boot,
    cow boy hat, cow parsley, cow s milk, crab cake, creek bed, crow bar, crow s feet, crow s nest, crowd control,
    crystal ball, cup board, cup cake, cup final, daffy duck, daisy duck, davis cup, disco ball, doctor s office,
    dog bed, dog bowl, dog days, dog ear, dog eared, dog fight, dog house, dog s breakfast, dog s life, dog wood,
    doll house, donald duck, dream catcher, driver s licence, driver s license, driver s seat, driver seat,
    driver side, drivers seat, drivers side, duck s egg, duck tape, duct tape, dust bowl, dvd player, eagle eye,
    eagle scout, early bird, egg cup, electronic keyboard, elephant and castle, elephant in the room, ewe s milk,
    fa cup, farmer s market, farmer s tan, farmers market, father s day, fathers day, field mouse, fire engine red,
    fish bowl, fish cake, fisherman s wharf, flower bed, fork in the river, fork in the road, fork in the trail,
    fork lift, fork of the river, friend request, front seat, fruit bat, fuel cell, garden bed, goat cheese,
    goat s cheese, goat s milk, goose bumps, grandparents day, gravy boat, gummy bear, guy wire, had a ball,
    hair brush, hair tie, have a ball, having a ball, hen house, hen s egg, hen s teeth, hobby horse, holding cell,
    horse chestnut, horse fly, horse power, horse radish, horse s mouth, horse shoe, hot dog eating contest,
    hound s tooth, house boat trailer, house mouse, jail cell, jet black, jet lag, jet of water, jet propulsion,
    jet ski, jet skis, jet stream, jetski, key board, kite board, kite boarder, kite boarding, kite surf, kite surfer,
    kite surfing, knife block, koala bear, lab mouse, lady bug, lady s fingers, lady s mantle, lady s slipper,
    lake bed, lamb s ear, lamb s lettuce, lamb s wool, lift chair, light bulb, man hole, man made, man s best friend,
    masked ball, masquerade ball, meat ball, media player, mickey mouse, milk pitcher, minnie mouse, mirror ball,
    mobile home, mother board, mother nature, mother s day, mother ship, mothers day, motorcycle seat, mouse hole,
    mouse pad, mouse trap, mp3 player, music keyboard, music player, musical keyboard, nerve cell, nurse s office,
    nurse shark, orange county, ox eye, ox eye daisy, padded cell, painter s tape, pancake batter, paper airplane,
    paper boat, paper plane, passenger car, passenger door, passenger seat, passenger side, passenger window,
    pay phone, peacock blue, periodic table, pet bed, phone book, piano keyboard, pitch fork, pitcher of beer,
    pitcher of juice, pitcher of lemonade, pitcher of milk, pitcher of water, plane tree, plant cell, player piano,
    police cell, pommel horse, prison cell, public phone, public telephone, railroad tie, ram s horn, record player,
    red bull, remote area, remote beach, remote control airplane, remote control boat, remote control car,
    remote control helicopter, remote control plane, remote controlled, remote island, remote location, remote road,
    remote village, river bed, robin hood, robin s egg, robin s egg blue, rocking horse, rose bowl, sailor s knot,
    sand boarding, santa ana, santa barbara, santa clara, santa clarita, santa cruz, santa fe, santa maria,
    santa monica, santa rosa, saw horse, scissor lift, scissors lift, sea cow, sea horse, sheep s cheese,
    sheep s milk, sheep s wool, sheep skin, ship s bell, ship s clock, ship s wheel, skate boarding, skin cell,
    snow boarding, solar cell, soldier field, somebody else s, somebody s, someone s, space ship, stanley cup,
    stem cell, stop light pole, stream bed, suction cup, super bowl, surf boarding, swan dive, swan lake, swan song,
    table cloth, table of contents, table runner, table spoon, table tennis, teacher s pet, teddy boy, tie breaker,
    tie clip, tie dye, tie dyed, tie fighter, tie game, tie rod, tie score, toilet bowl, toilet seat, toy plane,
    train bed, train of a dress, train of her, train of the bride, train of the dress, train of thought,
    train station, train track, trojan horse, truck bed, tuning fork, umbrella organization, umbrella term,
    vampire bat, vice chair, wagon train, wake board, wake boarding, water bear, water bed, water pitcher,
    water table, women s day, worker bee, world cup, worm s eye, wrecking ball, zebra crossing, zip tie
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
    "outside over past she should so that the their them then there they through to today together tomorrow tonight "
    "toward towards under underneath upon was were when where which while who whom whose will with within without "
    "would yesterday".split()
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

VERBS_TOO = frozenset(
    "arch back bark bat bear bench bike board boat bolt book bottle bowl box braid branch bridge brush bubble bud bus "
    "butter button cage cake camp can cap cart cast chain chair chalk clip clock cloud coat comb cook couch cover crop "
    "cross crow cup cycle dance desk dish dock dog drain dress drill drink drop duck dust edge face fan farm fence "
    "ferry field file film fish flag float flood flower fly fog fork frame fruit fuel grill group guard guide hail "
    "hammer hand harness hawk head heat hill hook hound house hug ice iron jet jump kick kite knife knot label lace "
    "land leaf light line lock man mark mask match mirror model monitor mother mouse nail nest net note nurse paddle "
    "paint pair pan paper park pass pet phone pile pilot pin pipe plant plate play plow plug point pole pool post pot "
    "print puddle pump race rail rain ram ride ring rock roll roof rope row saddle sail sand sandwich saw scale screen "
    "seal seat shade shadow shape shave shell ship shop shower sign sink sit skate skateboard ski slice slide smile "
    "smoke snack snow snowboard spot spray stack stain stair stamp stand star station steam steer stem step stick stop "
    "store stream string stripe suit sun surf sweat swim swing table tag tail tank tape telephone tie tile time tip "
    "toast towel tower toy trail trailer train trap trash trim truck trunk umpire view vine walk wall wash watch water "
    "wave wax wheel whip wing wire work yell zip".split()
)
"""Nouns whose base form is also a verb ("the students *train*", "*fork* the repository")."""

WATCHING = frozenset("hear heard help let made make makes saw see seen sees watch watched watches".split())
"""Verbs after which "her" may be the subject of another verb ("I saw her *duck* behind the fence")."""

ADJECTIVES_TOO = frozenset("adult convertible female male mobile novel patient remote semi".split())
"""Nouns that are also adjectives ("a *novel* approach", "be *patient*")."""

AFTER_NOVEL = frozenset(
    "approach approaches concept coronavirus design drug experience form idea ideas method methods solution system "
    "technique technology use virus way ways".split()
)
"""Nouns that make "novel" an adjective."""

BE = frozenset("am are be been being is s very was were".split())

OBJECT_VERBS = frozenset(
    "adjusts admires bites boards bounces brings builds buys calls carries catches checks chews cleans climbs cooks "
    "covers cuts delivers draws drinks drives eats enjoys examines feeds fetches finds fixes flies follows gets gives "
    "grabs guards guides has hauls hits holds inspects kicks kisses leads leaves licks lifts likes loads loves makes "
    "meets needs opens orders paints parks passes pets photographs plays pours prepares pulls pushes puts reads "
    "repairs rides rolls sees sells serves shears shows skates sniffs steals steers strokes swings takes tests throws "
    "touches tows trains uses visits walks wants washes watches wears wins".split()
)
"""Verbs in the third person that take an object, with or without an article ("man rides *bike*")."""

PICTURES = frozenset("cartoon drawing drawings sketch sketches".split())
"""Likenesses that are the whole picture where they open the sentence ("a drawing of a *car*")."""

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
"""Animals that are often statues, drawings or toys."""

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
    "competition conductor contest costume costumes court cover crust cutter days depot diamond door doors dough dress "
    "driver engine fair farm feeder festival field fire food frame game games goal handle hat helmet helmets holder "
    "hoop house houses idea industry jacket jersey juice lamp lane leaf leash leaves lid light lights line lover mark "
    "market mat match mix nest net numbers outfit oven owner pad pan pants paper park parlor path peel pie "
    "platform player players pole post practice print race races racing rack ramp ride rides road roll row rule rules "
    "salad sauce saw seat seats setting sheet sheets shelf shelter shelters shelves shirt shirts shop shorts show sign "
    "signs skin sky soup split spread stadium stall stand station stations stop stops store string stripes style suit "
    "team terminal time top tower toy toys track tracks trail trainer treat tree trees trick uniform uniforms vest "
    "window windows wire yard".split()
)
"""Nouns that are often modified by the noun before them ("a bus *stop*")."""

QUALITIES = ADJECTIVES - MADE_OF
"""Adjectives that do not make a thing a likeness."""

BEFORE_PHRASES = AFTER_NOUNS - DETERMINERS
"""Words that end the phrase before a noun phrase."""

AFTER_MOVEMENTS = PREPOSITIONS | frozenset("across along around away back down off out over past to toward up".split())
"""Words that follow a verb of movement ("the dog *runs* along")."""
